"""How text is split before byte-level BPE, by the name that a GGUF file gives it (`tokenizer.ggml.pre`).

Here: llama.cpp's published patterns as components of `tokenizer.json`. Not here: vocabularies (vocabulary.py), metadata (tokenizer.py).
Source: llama.cpp, src/llama-vocab.cpp, constructor of `llm_tokenizer_bpe`; each pattern splits the pieces that the one before left.
"""

from __future__ import annotations

from dataclasses import dataclass

Component = dict[str, object]

GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
_CASELESS = r"(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])|[^\r\n\p{L}\p{N}]?\p{L}+|"
_TAIL = r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
LLAMA3 = _CASELESS + r"\p{N}{1,3}" + _TAIL
QWEN2 = _CASELESS + r"\p{N}" + _TAIL


@dataclass(frozen=True)
class PreTokenizer:
    """One family. `ignore_merges`: a piece that is a token is taken whole. `add_bos`: what holds where the file has no `add_bos_token`."""

    components: tuple[Component, ...]
    normalizer: Component | None = None
    ignore_merges: bool = False
    add_bos: bool = False


def _split(pattern: str) -> Component:
    return {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False}


def byte_level(*, use_regex: bool = False) -> Component:
    """Bytes to the printable alphabet; with `use_regex` after a split by GPT-2's pattern."""
    return {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": use_regex}


_LLAMA3 = PreTokenizer((_split(LLAMA3), byte_level()), ignore_merges=True, add_bos=True)
_DEFAULT = (r"[\p{P}\$\+<=>\^~\|]+", GPT2, r"\p{N}+", "[0-9][0-9][0-9]")

PRE_TOKENIZERS: dict[str, PreTokenizer] = {
    "smollm": PreTokenizer(({"type": "Digits", "individual_digits": True}, byte_level(use_regex=True))),
    "gpt-2": PreTokenizer((byte_level(use_regex=True),)),
    "default": PreTokenizer((*map(_split, _DEFAULT), byte_level())),
    "llama-bpe": _LLAMA3,
    "llama3": _LLAMA3,
    "llama-v3": _LLAMA3,
    "smaug-bpe": PreTokenizer((_split(LLAMA3), byte_level())),  # SmolLM3's files: the pattern of Llama 3 and nothing else of it
    # llama.cpp leaves the normalizer out; the published Qwen2 tokenizer has it, and the model was trained behind it.
    "qwen2": PreTokenizer((_split(QWEN2), byte_level()), normalizer={"type": "NFC"}),
}
