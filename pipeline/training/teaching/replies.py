"""What an endpoint answered, believed only as far as it proves itself.

Here: one reply's bytes to an answer. Not here: HTTP (interlock/posting.py).
A log-probability is kept only if the tokens spell the answer, each of them is in the vocabulary, and probabilities sum to at most 1.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from interlock.contracts.strict import parse_json
from interlock.errors import ContractError, Violation
from interlock.posting import MAX_REPLY, excerpt
from pipeline.training.teaching.answers import Answer, Capture, Top, failed
from pipeline.training.teaching.vocabulary import SAME, Vocabulary

MOST_VALUES = 2_000_000  # 4,096 tokens, 20 log-probabilities of each, with the bytes of each
SLACK = 1e-3  # that log-probabilities of a few digits may sum to beyond 1
LEAST_TAIL = 2.0**-24  # what is left of 1 in fp32: a rest is never said to be impossible


def read(reply: bytes, teacher: str, capture: Capture, vocabulary: Vocabulary | None) -> Answer:
    """The answer. Raises StageFailed for what is none, and ContractError for tokens of another tokenizer."""
    try:
        document = parse_json(reply, "the reply", limit=MAX_REPLY, values=MOST_VALUES, remedy="")
    except ContractError as error:
        wrong = error.violations[0]
        raise failed(teacher, "one JSON object", f"{wrong.found}: {excerpt(reply)}") from None
    choice = _at(document, teacher, "choices", 0)
    text = _at(choice, teacher, "message", "content")
    if not isinstance(text, str):
        raise failed(teacher, "a text in choices/0/message/content", f"{text!r}"[:80])
    used, fingerprint = document.get("usage"), document.get("system_fingerprint")
    tokens = used.get("total_tokens") if isinstance(used, dict) else None
    top = None
    if capture.top_k:
        assert vocabulary is not None
        logprobs = choice.get("logprobs") if isinstance(choice, dict) else None
        top = _top(logprobs, text, teacher, capture.top_k, vocabulary)
    # Without a count of its own a token is at least a byte of the answer: a budget is rather spent too early.
    counted = tokens if isinstance(tokens, int) and tokens >= 0 else len(text.encode())
    return Answer(text, counted, top, fingerprint if isinstance(fingerprint, str) else None)


def _at(value: Any, teacher: str, *path: str | int) -> Any:
    for number, step in enumerate(path):
        inner = value if isinstance(value, dict) else dict(enumerate(value)) if isinstance(value, list) else {}
        if step not in inner:
            raise failed(teacher, f"{'/'.join(map(str, path))} in the reply", f"nothing at {'/'.join(map(str, path[: number + 1]))}")
        value = inner[step]
    return value


def _top(logprobs: Any, text: str, teacher: str, k: int, vocabulary: Vocabulary) -> Top:
    entries = logprobs.get("content") if isinstance(logprobs, dict) else None
    if not isinstance(entries, list):
        raise failed(teacher, f"{k} log-probabilities per token", "none")
    tokens, ids, values, tails, spelled = [], [], [], [], b""
    for number, entry in enumerate(entries):
        name, _ = _token(entry, teacher, f"token {number}")
        spelled += name
        tokens.append(_id(name, teacher, vocabulary))
        best = entry.get("top_logprobs")
        if not isinstance(best, list) or len(best) < k:
            raise failed(teacher, f"{k} log-probabilities per token", f"{len(best) if isinstance(best, list) else 'none'} at token {number}")
        pairs = [_token(one, teacher, f"token {number}, top_logprobs") for one in best[:k]]
        ids.append([_id(one, teacher, vocabulary) for one, _ in pairs])
        values.append([value for _, value in pairs])
        if len(set(ids[-1])) < k:
            raise failed(teacher, f"{k} different tokens", f"one twice in top_logprobs of token {number}")
        total = sum(map(math.exp, values[-1]))
        if total > 1 + SLACK:
            raise failed(teacher, "probabilities that sum to at most 1", f"{total:.4f} at token {number}")
        tails.append(math.log(max(1 - total, LEAST_TAIL)))
    # A text may leave out control tokens at its end, and characters that are not whole.
    if not spelled.decode("utf-8", "replace").startswith(text) and spelled.decode("utf-8", "replace") != text:
        raise failed(teacher, "log-probabilities of the answer's own tokens", f"those of {excerpt(spelled)}")
    shape = len(tokens), k
    return Top(
        np.array(tokens, np.int32),
        np.array(ids, np.int32).reshape(shape),
        np.array(values, np.float16).reshape(shape),
        np.array(tails, np.float32),
    )


def _token(entry: Any, teacher: str, where: str) -> tuple[bytes, float]:
    """The bytes of a token and its log-probability."""
    if isinstance(entry, dict) and isinstance(entry.get("token"), str):
        value, spelled = entry.get("logprob"), entry.get("bytes")
        sound = isinstance(spelled, list) and all(isinstance(byte, int) and 0 <= byte < 256 for byte in spelled)
        if isinstance(value, int | float) and not isinstance(value, bool) and value <= SLACK:
            # Servers say -9999.0 for what has no probability; fp16 holds to -65504.
            return bytes(spelled) if sound and spelled else entry["token"].encode(), max(float(value), -6e4)
    raise failed(teacher, f"a token with its log-probability at {where}", f"{entry!r}"[:80])


def _id(spelled: bytes, teacher: str, vocabulary: Vocabulary) -> int:
    if spelled not in vocabulary.ids:
        expected = f"the tokenizer of teacher `{teacher}`, which has a token {excerpt(spelled)}"
        raise ContractError(Violation("--tokenizer", "", expected, f"{vocabulary.size} ids, sha256 {vocabulary.sha256}"), remedy=SAME)
    return vocabulary.ids[spelled]
