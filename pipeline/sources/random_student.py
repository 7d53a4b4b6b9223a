"""`random:SEED`: a small student with random weights, a halt head and a byte-level tokenizer, for builds that exercise every stage in seconds.

Here: its size, its tokenizer. Not here: how weights are drawn (runtime/student).
"""

from __future__ import annotations

import hashlib
import re

from interlock.contracts.checkpoint import Arch, ModelArch, Source
from interlock.errors import UsageError
from pipeline.sources.foreign import Foreign, TokenizerFiles

ARCH = Arch(
    d_model=64, n_layers=2, n_heads=4, n_kv_heads=2, d_head=16, d_ff=96, vocab_size=300, rope_theta=10000.0, norm_eps=1e-5, tie_embeddings=False,
    max_position=512,
)  # fmt: skip
HEADS = ModelArch(use_halt_head=True)
SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<bot>", "<eot>")
TEMPLATE = "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}<|im_start|>assistant\n"


def open_random(seed: str) -> Foreign:
    """The student of a seed: the same weights for the same seed and torch. Raises UsageError for what is no seed."""
    if not re.fullmatch(r"[0-9]{1,9}", seed):
        raise UsageError(f"`random:{seed}` has no seed", remedy="give a number, as in `random:0`")
    from runtime.student.checkpoint import random_student

    state = random_student(ARCH, HEADS, int(seed)).state_dict()
    shapes = ARCH.weight_shapes(HEADS)
    digest = hashlib.sha256(f"random:{seed} {ARCH.model_dump_json()} {HEADS.model_dump_json()}".encode()).hexdigest()
    source = Source(form="random", name=f"random:{seed}", sha256=digest)
    return Foreign(ARCH, HEADS, 0, source, shapes, lambda name: state[name].clone(), _tokenizer())


def _tokenizer() -> TokenizerFiles:
    """256 bytes as tokens, the chat tokens, and those of latent spans."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE({token: number for number, token in enumerate(alphabet)}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(text, special=True) for text in SPECIAL])
    ids = {text: len(alphabet) + number for number, text in enumerate(SPECIAL)}
    return TokenizerFiles(
        tokenizer_json=tokenizer.to_str().encode(),
        bos_id=ids["<|endoftext|>"],
        eos_ids=(ids["<|im_end|>"],),
        pad_id=ids["<|endoftext|>"],
        add_bos=False,
        vocab_size=len(alphabet) + len(SPECIAL),
        chat_template=TEMPLATE,
    )
