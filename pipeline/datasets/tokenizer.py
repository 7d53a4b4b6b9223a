"""A tokenizer of a dataset's own: byte-level BPE, with the tokens of chat, latent spans and tool calls before all others.

Here: training one, and the files of its directory. Not here: foreign tokenizers (pipeline/sources), encoding (runtime/engine/tokenizer.py).
The bytes follow from the texts and the size alone, whatever their order and the number of threads.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator

from interlock.contracts.checkpoint import CHAT_TEMPLATE, TOKENIZER
from interlock.errors import UsageError
from pipeline.datasets.dialogues import described
from pipeline.datasets.rows import Row
from pipeline.datasets.tools import Registry

END_OF_TEXT, TURN, END_OF_TURN = "<|endoftext|>", "<|im_start|>", "<|im_end|>"
SPECIAL = (END_OF_TEXT, TURN, END_OF_TURN, "<bot>", "<eot>", "<tool_call>", "</tool_call>", "<tool_response>", "</tool_response>")
"""Ids 0 to 8 of every tokenizer that is made here: `<bot>` and `<eot>` around a latent span, the others as ChatML and Qwen's tools have them."""

BYTES = 256
LEAST, MOST = len(SPECIAL) + BYTES, 1 << 18

# GPT-2's pattern with two changes: digits that follow a letter stay with it (`o12` is a name), and others come in threes, as in Llama 3.
PATTERN = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}[\p{L}\p{N}]*| ?\p{N}{1,3}| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"

TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)

# With a list of tools before the first message, and calls and results between the tokens that are theirs. `generation` marks what the assistant says,
# for trainers that ask the template (transformers' `return_assistant_tokens_mask`).
TEMPLATE_WITH_TOOLS = """\
{%- if tools %}
    {{- "<|im_start|>system\\n" }}
    {%- if messages and messages[0]["role"] == "system" %}
        {{- messages[0]["content"] + "\\n\\n" }}
    {%- endif %}
    {{- "Tools, called as <tool_call>{\\"name\\": …, \\"arguments\\": {…}}</tool_call>:\\n" }}
    {%- for tool in tools %}
        {{- tool["function"] | tojson + "\\n" }}
    {%- endfor %}
    {{- "<|im_end|>\\n" }}
{%- endif %}
{%- for m in messages %}
    {%- if m["role"] == "assistant" %}
        {{- "<|im_start|>assistant\\n" }}
        {%- generation %}
            {{- m["content"] }}
            {%- for call in m["tool_calls"] or [] %}
                {{- "<tool_call>" + {"name": call["function"]["name"], "arguments": call["function"]["arguments"]} | tojson + "</tool_call>" }}
            {%- endfor %}
            {{- "<|im_end|>" }}
        {%- endgeneration %}
        {{- "\\n" }}
    {%- elif m["role"] == "tool" %}
        {{- "<|im_start|>tool\\n<tool_response>" + m["content"] + "</tool_response><|im_end|>\\n" }}
    {%- elif not (tools and loop.first and m["role"] == "system") %}
        {{- "<|im_start|>" + m["role"] + "\\n" + m["content"] + "<|im_end|>\\n" }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- "<|im_start|>assistant\\n" }}
{%- endif %}
"""


def texts_of(rows: Iterable[Row], tools: Registry) -> Iterator[str]:
    """Every part of rows that becomes ids of its own (prompts, messages, steps, answers, responses, what is rejected), and the tools as templates
    list them."""
    yield from (json.dumps(described(name, tool)["function"], ensure_ascii=False) for name, tool in tools.items())
    for row in rows:
        yield from (part for part in (row.prompt, row.answer, row.response) if part)
        yield from row.steps or ()
        for message in (*(row.messages or ()), *([row.rejected] if row.rejected else [])):
            yield message.content
            yield from (json.dumps(call.model_dump(), ensure_ascii=False) for call in message.calls or ())


def train(texts: Iterable[str], vocab_size: int) -> bytes:
    """A `tokenizer.json` of at most `vocab_size` ids: SPECIAL, the 256 bytes, then merges by falling count until texts have no pair twice.

    Texts are normalised to NFC. Raises UsageError for a size that has no room for the bytes, or beyond 262,144.
    """
    from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

    if not LEAST <= vocab_size <= MOST:
        raise UsageError(f"a vocabulary of {vocab_size} ids cannot be made", remedy=f"give {LEAST} ({BYTES} bytes and special tokens) to {MOST}")
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.NFC()
    pieces = pre_tokenizers.Split(Regex(PATTERN), behavior="isolated")
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([pieces, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        min_frequency=2,
        special_tokens=[AddedToken(text, special=True, normalized=False) for text in SPECIAL],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return json.dumps(json.loads(tokenizer.to_str()), ensure_ascii=False, separators=(",", ":")).encode()


def directory(tokenizer_json: bytes, *, tools: bool = False) -> dict[str, bytes]:
    """The files of a tokenizer's directory, as `save_pretrained` writes one and `interlock import --tokenizer` reads it. tools: the template is one
    that writes them."""
    config = {"eos_token": END_OF_TURN, "pad_token": END_OF_TEXT, "bos_token": None, "add_bos_token": False}
    template = TEMPLATE_WITH_TOOLS if tools else TEMPLATE
    return {TOKENIZER: tokenizer_json, "tokenizer_config.json": json.dumps(config, indent=2).encode() + b"\n", CHAT_TEMPLATE: template.encode()}
