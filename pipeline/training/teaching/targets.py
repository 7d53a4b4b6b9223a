"""What a taught dataset is for a training: each row's own tokens, and what the teacher thought at each.

Here: the check that they fit the student, shards as targets of losses. Not here: the files (shards.py), the losses.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch

from interlock.contracts.checkpoint import TokenizerInfo
from interlock.contracts.dataset import DatasetContract
from interlock.errors import refuse
from pipeline.training.losses.teachers import TopKTeacher
from pipeline.training.teaching.shards import read_shards
from pipeline.training.teaching.vocabulary import require_same


@dataclass(frozen=True)
class TaughtRow:
    """tokens: of the answer, as the teacher said them; teacher: of each, its top k and the rest."""

    tokens: tuple[int, ...]
    teacher: TopKTeacher


def of(directory: Path, contract: DatasetContract, student: TokenizerInfo) -> dict[str, TaughtRow]:
    """By the ids of rows, of a dataset whose files are proven; rows to which the teacher said nothing at all are left out.

    Raises ContractError where no log-probabilities were captured, and where they are of other ids than the student's, with sizes and digests.
    """
    teaching = contract.teaching
    if teaching is None or teaching.tail is None:
        remedy = f"make them: interlock data teach {directory} --teacher DIR --top-k 64 --out OUT; or train without the loss `kl`"
        raise refuse(directory, "/teaching", expected="log-probabilities of a teacher", found="none", remedy=remedy)
    require_same("the student", student.sha256, student.vocab_size, teaching.name, contract.tokenizer, teaching.vocab_size)
    found = {}
    for name, top in read_shards(directory, contract).items():
        if len(top.tokens):
            ids, logprobs, tail = (torch.from_numpy(part) for part in (top.ids, top.logprobs, top.tail))
            found[name] = TaughtRow(tuple(top.tokens.tolist()), TopKTeacher(ids, logprobs, tail, teaching.tail))
    return found
