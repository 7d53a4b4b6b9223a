"""A directory as Hugging Face's libraries write it answers an item, run by those libraries: what a student is compared with that did not go through
interlock.

Here: one prompt, one greedy answer of `transformers`. Not here: reading such a directory ourselves (pipeline/sources/huggingface.py).
`transformers` is none of the train environment's packages: it comes with extra `hf` of envs/train, which `tox -e hf` installs. No code of the
directory is run, no pickle is opened, nothing is fetched.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from eval.answers import Answered
from eval.asking import Foreign
from eval.extras import require
from eval.items import Item
from eval.runners.deployment import of_item
from interlock.errors import UsageError, refuse
from runtime.engine.chat import render_chat

REMEDY = "name a directory with config.json, tokenizer.json and safetensors, as `save_pretrained` writes it"


@dataclass(frozen=True)
class Transformed:
    """A `Runner`. model, tokenizer: of transformers; ends: ids that end an answer; capacity: positions of the model."""

    model: Any
    tokenizer: Any
    ends: tuple[int, ...]
    capacity: int
    max_new_tokens: int

    def say(self, item: Item, messages: Sequence[Mapping[str, str]] | None = None) -> Answered:
        import torch

        ids = self._ids(item, messages)
        if not 0 < len(ids) <= self.capacity:
            remedy = "leave this item out, or use a model with more positions"
            raise UsageError(f"item {item.id}: the prompt has {len(ids)} tokens, the model has {self.capacity} positions", remedy=remedy)
        # Fed are the prompt and all new tokens but the last: so many may be new.
        most = min(self.max_new_tokens, self.capacity - len(ids) + 1)
        given = torch.tensor([ids])
        with torch.inference_mode():
            made = self.model.generate(given, attention_mask=torch.ones_like(given), max_new_tokens=most)[0, len(ids) :].tolist()
        ended = bool(made) and made[-1] in self.ends
        text = self.tokenizer.decode(made, skip_special_tokens=True, clean_up_tokenization_spaces=False)
        cut = "length" if len(made) == self.max_new_tokens else "position_limit"
        return Answered(text, "eos" if ended else cut, len(made), prompt_tokens=len(ids))  # type: ignore[arg-type]

    def _ids(self, item: Item, messages: Sequence[Mapping[str, str]] | None) -> list[int]:
        """Raises UsageError."""
        if messages is None and item.prompt is not None:
            return list(self.tokenizer(item.prompt)["input_ids"])
        if not isinstance(self.tokenizer.chat_template, str):
            raise UsageError(f"item {item.id} has messages, and the model has no chat template", remedy="choose a suite whose rows have prompts")
        given = [dict(message) for message in (item.messages if messages is None else messages)]
        # By our own renderer: a template of a foreign directory is not trusted, and theirs has no limits.
        special = {name: getattr(self.tokenizer, name) for name in ("bos_token", "eos_token")}
        try:
            text = render_chat(self.tokenizer.chat_template, given, **special)
        except UsageError as error:
            raise of_item(item, error) from None
        return list(self.tokenizer(text, add_special_tokens=False)["input_ids"])


def opened(model: Foreign, max_new_tokens: int) -> Transformed:
    """In fp32. Raises EnvironmentRefused without transformers, ContractError for a directory that it cannot load."""
    folder = model.directory
    check(folder)
    require("transformers", "runner `hf_local`", "hf", f"{folder} SUITE --runner hf_local")
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig

    closed: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, **closed)
        made = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, use_safetensors=True, **closed).eval()
    except (OSError, ValueError, KeyError, TypeError, RuntimeError, ImportError) as error:
        raise refuse(folder, "", expected="a model that transformers loads without code of its own", found=_line(error), remedy=REMEDY) from None
    ends = _ends(made, tokenizer)
    # In place of the directory's own, whose penalties and the like `generate` would add to whatever it is given.
    made.generation_config = GenerationConfig(do_sample=False, eos_token_id=list(ends) or None, pad_token_id=0)
    return Transformed(made, tokenizer, ends, int(made.config.max_position_embeddings), max_new_tokens)


def check(folder: Path) -> None:
    """Raises ContractError for what is not even such a directory."""
    if not (folder / "config.json").is_file():
        raise refuse(folder, "", expected="a directory with config.json", found="none", remedy=REMEDY)


def _ends(model: Any, tokenizer: Any) -> tuple[int, ...]:
    """The ids that end an answer: those of generation_config.json, else of config.json, else of the tokenizer."""
    for found in (model.generation_config.eos_token_id, model.config.eos_token_id, tokenizer.eos_token_id):
        if found is not None:
            return tuple(found) if isinstance(found, list | tuple) else (int(found),)
    return ()


def _line(error: Exception) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())[:300]
