"""Rows of evaluations as suites make them, answered by an oracle and spoiled on purpose: no model is run."""

from __future__ import annotations

import functools
import json
import random
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from eval.answers import Answered
from eval.broker import replay
from eval.broker.replay import Broker
from eval.calls import Call
from eval.items import Item
from eval.scoring.table import metrics, row
from eval.shipped import read_suite
from eval.statistics import gates
from eval.suite import Suite
from interlock.contracts.evaluation import Decoding, GateResult, Subject
from pipeline.datasets import automaton, contextual, needles, questions, toolcalls
from pipeline.datasets.items import items_of
from pipeline.datasets.rows import Row
from pipeline.datasets.tasks import Order
from pipeline.datasets.tools import answered
from pipeline.datasets.world import REGISTRY

Answers = dict[str, Answered]
Spoil = Callable[[Item, Answers, random.Random], Answers]


@functools.cache
def rows_of(task: str, count: int) -> tuple[Row, ...]:
    made, parameters = {"contextual": (contextual, {"lines": 6}), "questions": (questions, {}), "automaton": (automaton, {"depths": "1..6"}),
                        "tool-calls": (toolcalls, {}), "needles": (needles, {"lines": "2,4,8", "depths": 5})}[task]  # fmt: skip
    return tuple(made.TASK.make(Order(0, "test", count, parameters, frozenset())))  # type: ignore[attr-defined]


@functools.cache
def broker(task: str = "contextual") -> Broker:
    """The world's results of every call of a task's rows."""
    told = ((Call(call.name, call.arguments), json.loads(reply or "{}")) for one in rows_of(task, 600) for call, reply in answered(one))
    return Broker(REGISTRY, {one.digest: one for one in replay.recorded(REGISTRY, told)})


@functools.cache
def items(task: str, count: int) -> tuple[Item, ...]:
    return tuple(items_of(rows_of(task, count)))


def oracle(suite: Suite, item: Item, response: str | None, chance: random.Random) -> Answers:
    """What a perfect model says, in each of the suite's ways."""
    text = response or item.answer
    if suite.asks == "tools":
        calls = tuple(broker(TASKS[suite.name][0]).call(call) for call in item.calls)
        return {"text": Answered(text, "eos", chance.randrange(8, 30), prompt_tokens=150, calls=calls)}
    if suite.asks == "latent":
        return {"latent": Answered(item.answer, "eos", 4 + item.steps, item.steps, 1), "text": Answered(item.answer, "eos", 2 + 3 * item.steps)}
    if suite.asks == "halting":
        return {"halting": Answered(text, "halt", 8), "text": Answered(f"{text} And more.", "length", 24)}
    if suite.asks == "parity":
        numbers = {name: tuple(chance.uniform(0, most) for _ in range(12)) for name, most in (("kl", 2e-4), ("p_change", 1e-3))}
        return {"text": Answered(text, "eos", 12, numbers={**numbers, "same_top": (1.0,) * 12}), "against": Answered(text, "eos", 12)}
    return {"text": Answered(text, "eos", 8)}


TASKS = {"smoke": ("questions", 60), "halting": ("questions", 300), "parity": ("questions", 60), "latent": ("automaton", 120),
         "contextual": ("contextual", 600), "tools": ("tool-calls", 600), "needles": ("needles", 120)}  # fmt: skip


def evaluated(name: str, spoil: Spoil | None = None, seed: int = 0, noise: float = 0.0) -> list[dict[str, Any]]:
    """The rows of a suite. noise: the share of items that even an honest model spoils by saying nothing."""
    suite, (task, count) = read_suite(name), TASKS[name]
    made, chance = [], random.Random(seed)
    for item, given in zip(items(task, count), rows_of(task, count), strict=True):
        answers = oracle(suite, item, given.response, chance)
        if noise and chance.random() < noise:
            answers = {way: replace(said, text="") for way, said in answers.items()}
        made.append(row(suite, item, spoil(item, answers, chance) if spoil else answers))
    return made


def judged(name: str, rows: Sequence[dict[str, Any]], claims: dict[str, Any] | None = None) -> dict[str, GateResult]:
    """The suite's gates over rows, by name; figures that no gate is about are not computed."""
    suite = read_suite(name)
    wanted = suite.gates if claims is None else claims
    known = metrics(suite)
    figures = {gate: known[gate](rows, 0.95) for gate in wanted}
    return {one.name: one for one in gates.judge(figures, wanted, 0.95, suite.least)}


def body_of(name: str, results: Sequence[GateResult], count: int) -> dict[str, Any]:
    """The body of a contract, as the stage has it."""
    subject = Subject(kind="deployment", name="step 1000", digest="a" * 64)
    decoding = Decoding(temperature=0.0, seed=None, max_new_tokens=64)
    return {"suite": name, "verdict": gates.verdict(results), "subject": subject, "runner": "deployment", "backend": "reference", "items": count,
            "decoding": decoding, "fixtures": None, "gates": tuple(results)}  # fmt: skip
