"""A student made by hand whose latent steps are known, and checkpoints of students that say they were trained with latent slots.

Every state is a direction of its own: a token or a slot leads to exactly one next state, whatever came before it, because attention adds nothing.
As text, `a` says `bcde z`, `c` says `de z`, then the end. In latent mode the slots after `<bot>` pass four states, the halt head fires at the fourth,
and after `<eot>` the answer ` z` follows at once.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import torch
from fakes.makers import maker

from interlock.contracts import checkpoint, io
from interlock.contracts.base import InputRef
from interlock.contracts.checkpoint import Arch, HaltTraining, LatentTraining, ModelArch, TokenizerInfo, Training
from runtime.student.checkpoint import random_student
from runtime.student.model import Student

LETTERS = "abcdefghijz"
PIECES = [*LETTERS, "Ġ"]
END, BOT, EOT = len(PIECES), len(PIECES) + 1, len(PIECES) + 2
VOCAB = len(PIECES) + 3
STATES = list(range(VOCAB, VOCAB + 6))
HALTS_AFTER = 4
ANSWER = " z"
MAX_SLOTS, THRESHOLD = 6, 0.7
WIDTH = 32
ARCH = Arch(
    d_model=WIDTH, n_layers=1, n_heads=2, n_kv_heads=1, d_head=16, d_ff=WIDTH, vocab_size=VOCAB, rope_theta=1e4, norm_eps=1e-5,
    tie_embeddings=False, max_position=128,
)  # fmt: skip
HALTS = ModelArch(use_halt_head=True)


def trained(*, slots_per_step: int = 1, max_slots: int = MAX_SLOTS, halt: bool = True) -> Training:
    return Training(
        losses={"cross_entropy": 1.0},
        seed=0,
        steps=1,
        latent=LatentTraining(schedule="mixture", slots_per_step=slots_per_step, max_slots=max_slots, step_loss=0.5),
        halt=HaltTraining(reads="slot", threshold=THRESHOLD, backbone=None) if halt else None,
    )


def successors() -> dict[int, int]:
    """What follows each token or state."""
    ids = {piece: place for place, piece in enumerate(PIECES)}
    follows = {ids[one]: ids[other] for one, other in ("ab", "bc", "cd", "de", ("e", "Ġ"), ("Ġ", "z"), "fg", "gh", "hi", "ij", "ja")}
    follows |= {ids["z"]: END, END: END, EOT: ids["Ġ"], BOT: STATES[0]}
    return follows | dict(zip(STATES, [*STATES[1:], STATES[-1]], strict=True))


def known_student() -> Student:
    student = random_student(ARCH, HALTS, seed=3)
    with torch.no_grad():
        block = student.blocks[0]
        for weight in (block.attn.wo.weight, block.mlp.w2.weight, student.embed.weight, student.lm_head.weight, student.halt_head.weight):
            weight.zero_()
        for gate in (block.mlp.w1.weight, block.mlp.w3.weight):
            gate.copy_(torch.eye(WIDTH))
        for state, following in successors().items():
            block.mlp.w2.weight[following, state] = 4.0
        for token in range(VOCAB):
            student.embed.weight[token, token] = 1.0
            student.lm_head.weight[token, token] = 2.0
        student.halt_head.weight[1, STATES[HALTS_AFTER]] = 2.0
        student.halt_head.bias.copy_(torch.tensor([0.0, -5.0]))
    return student.eval().requires_grad_(False)


def tokenizer_json() -> bytes:
    import tokenizers
    from tokenizers import decoders, models, pre_tokenizers

    inner = tokenizers.Tokenizer(models.BPE(vocab={piece: place for place, piece in enumerate(PIECES)}, merges=[]))
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    inner.add_special_tokens([tokenizers.AddedToken(text, special=True, normalized=False) for text in ("<|end|>", "<bot>", "<eot>")])
    return inner.to_str().encode()


def tokenizer_info() -> TokenizerInfo:
    digest = hashlib.sha256(tokenizer_json()).hexdigest()
    return TokenizerInfo(sha256=digest, vocab_size=VOCAB, eos_ids=(END,), bot_id=BOT, eot_id=EOT)


def write_checkpoint(folder: Path, student: Student, training: Training | None, *, tokenizer: bool = True) -> Path:
    """A checkpoint directory with its contract. tokenizer: that of the known student."""
    from safetensors.torch import save_file

    folder.mkdir(parents=True)
    weights = {name: tensor.clone() for name, tensor in student.state_dict().items()}
    save_file(weights, folder / checkpoint.WEIGHTS)
    if tokenizer:
        (folder / checkpoint.TOKENIZER).write_bytes(tokenizer_json())
    contract = checkpoint.CheckpointContract(
        created_by=maker("import"),
        inputs=(InputRef(kind="source", digest="2" * 64),),
        files=io.entries(folder),
        toy=True,
        arch=student.arch,
        model_arch=student.heads,
        dtype="float32",
        parameters=sum(tensor.numel() for tensor in weights.values()),
        tokenizer=tokenizer_info() if tokenizer else None,
        source=checkpoint.Source(form="trained", name="toy", sha256="2" * 64),
        training=training,
    ).sealed()
    (folder / checkpoint.FILE).write_bytes(io.pretty(contract))
    return folder
