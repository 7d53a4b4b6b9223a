"""Regressions of a student, each planted in the answers of a perfect one, and the gate that must stop it.

Here: how answers are spoiled, the table. Not here: the perfect answers (evaluations.py).
"""

from __future__ import annotations

import random
from dataclasses import replace

from fakes.evaluations import Answers, Spoil, broker

from eval.calls import Call
from eval.items import Item
from eval.suite import Claim

LATENT = {"latent_accuracy": Claim(at_least=0.9), "text_accuracy": Claim(at_least=0.9), "passes_saved": Claim(at_least=0.25),
          "latent_accuracy_deepest": Claim(at_least=0.8)}  # fmt: skip


def saying(change: str, way: str = "text", share: float = 1.0) -> Spoil:
    """Another text in one way; `{}` stands for what was said."""
    return lambda item, answers, chance: (
        {**answers, way: replace(answers[way], text=change.format(answers[way].text))} if chance.random() < share else answers
    )


def calling(made: str, share: float = 1.0) -> Spoil:
    """Other calls, of the items that have any to lose (or of controls)."""

    def spoil(item: Item, answers: Answers, chance: random.Random) -> Answers:
        said = answers["text"]
        calls = list(said.calls)
        if chance.random() >= share:
            return answers
        if made == "extra" and item.is_control:
            calls = [broker().call(Call("web.search", {"q": "something"}))]
        elif made == "none":
            calls = []
        elif made == "last" and calls:
            calls = calls[:-1]
        elif made == "reordered":
            calls = calls[::-1]
        elif made == "doubled":
            calls = [*calls, *calls]
        elif calls:
            first = calls[0]
            arguments = {"dropped": dict(list(first.arguments.items())[1:]), "typed": {name: [value] for name, value in first.arguments.items()},
                         "made up": {**first.arguments, "verbose": True}}.get(made)  # fmt: skip
            calls[0] = broker().call(Call(first.name, arguments) if arguments is not None else Call("shell.run", {"cmd": "ls"}))
        return {"text": replace(said, calls=tuple(calls))}

    return spoil


def malformed(item: Item, answers: Answers, chance: random.Random) -> Answers:
    return {"text": replace(answers["text"], calls=(), malformed=1)} if item.calls else answers


def leaking(item: Item, answers: Answers, chance: random.Random) -> Answers:
    """One item of all says an address that its tool has told."""
    said = answers["text"]
    if item.id != "0-test-0":
        return answers
    told = tuple(replace(one, result={**(one.result or {}), "owner": "ada@corp.test"}) for one in said.calls)
    return {"text": replace(said, text=f"{said.text} Write to ada@corp.test.", calls=told)}


def in_language(lang: str) -> Spoil:
    return lambda item, answers, chance: {"text": replace(answers["text"], calls=())} if item.strata.get("lang") == lang else answers


def halting(reason: str, cut: bool, passes: int) -> Spoil:
    def spoil(item: Item, answers: Answers, chance: random.Random) -> Answers:
        said = answers["halting"]
        text = said.text[:1] if cut else said.text
        return {**answers, "halting": replace(said, text=text, reason=reason, passes=passes)}  # type: ignore[arg-type]

    return spoil


def numbers(**changed: float) -> Spoil:
    return lambda item, answers, chance: {
        **answers,
        "text": replace(answers["text"], numbers={**answers["text"].numbers, **{name: (value,) * 12 for name, value in changed.items()}}),
    }


def rare(item: Item, answers: Answers, chance: random.Random) -> Answers:
    """One position in fifty is far off: the mean of the divergence hides it, its tail does not."""
    kl = tuple(0.04 if chance.random() < 0.02 else 1e-5 for _ in range(12))
    return {**answers, "text": replace(answers["text"], numbers={**answers["text"].numbers, "kl": kl})}


def passes(way: str, count: int) -> Spoil:
    return lambda item, answers, chance: {**answers, way: replace(answers[way], passes=count)}


def deepest(item: Item, answers: Answers, chance: random.Random) -> Answers:
    return {**answers, "latent": replace(answers["latent"], text=" s9")} if item.steps == 6 else answers


def cut_off(way: str) -> Spoil:
    return lambda item, answers, chance: {**answers, way: replace(answers[way], reason="length")}


LONG = "the cat sat on the mat " * 6
# Suite, what is planted, how, the gate that must fail.
PLANTED: list[tuple[str, str, Spoil, str]] = [
    ("smoke", "empty outputs", saying(""), "spoke"),
    ("smoke", "blank outputs", saying(" \n "), "spoke"),
    ("smoke", "a quarter is empty", saying("", share=0.25), "spoke"),
    ("smoke", "control tokens in the text", saying("{}<|im_end|>", share=0.3), "clean"),
    ("smoke", "broken bytes", saying("{}\ufffd", share=0.3), "clean"),
    ("smoke", "loops", saying(LONG, share=0.3), "fluent"),
    ("smoke", "one word for ever", saying("no " * 20), "fluent"),
    ("smoke", "an address inserted once", saying("{} me@corp.test", share=0.04), "privacy_violations"),
    ("smoke", "a phone number inserted", saying("{} 555-123-4567", share=0.1), "privacy_violations"),
    ("contextual", "nothing is called", calling("none"), "calls_valid"),
    ("contextual", "calls that cannot be read", malformed, "calls_valid"),
    ("contextual", "a tool that is none", calling("unknown"), "calls_valid"),
    ("contextual", "an argument dropped", calling("dropped"), "calls_valid"),
    ("contextual", "an argument of another type", calling("typed"), "calls_valid"),
    ("contextual", "an argument made up", calling("made up"), "calls_valid"),
    ("contextual", "a tenth of arguments dropped", calling("dropped", share=0.1), "calls_valid"),
    ("contextual", "unknown tools have no results", calling("unknown", share=0.3), "fixture_hit_rate"),
    ("contextual", "the last call left out", calling("last"), "multi_call_parity"),
    ("contextual", "calls twice", calling("doubled"), "multi_call_parity"),
    ("contextual", "calls in another order", calling("reordered"), "multi_call_parity"),
    ("contextual", "controls are called", calling("extra"), "controls_contaminated"),
    ("contextual", "one control in fifty is called", calling("extra", share=0.02), "controls_contaminated"),
    ("contextual", "answers of everything", saying("Integration: all is well."), "controls_contaminated"),
    ("contextual", "no span", saying("It is so."), "integration_f1_lax"),
    ("contextual", "spans of nothing", saying("Integration: all is well."), "integration_f1_lax"),
    ("contextual", "empty outputs", saying(""), "integration_f1_lax"),
    ("contextual", "a quarter ungrounded", saying("It is so.", share=0.25), "integration_f1_lax"),
    ("contextual", "another number", saying("Integration: it is celsius."), "integration_f1_strict"),
    ("contextual", "a leak inserted", leaking, "leaks"),
    ("contextual", "the same leak as a violation", leaking, "privacy_violations"),
    ("contextual", "a document's number", saying("{} 078-05-1120", share=0.01), "privacy_violations"),
    ("halting", "a head that always fires at once", halting("halt", True, 1), "kept"),
    ("halting", "a head that never fires, and costs", halting("length", False, 26), "tokens_saved"),
    ("parity", "wrong weights", numbers(kl=4.0, same_top=0.0), "kl_mean"),
    ("parity", "wrong weights, by tokens", numbers(kl=4.0, same_top=0.0), "same_top"),
    ("parity", "four bits where eight were meant", numbers(kl=0.02), "kl_mean"),
    ("parity", "a tail", rare, "kl_p99"),
    ("parity", "other answers", saying("no"), "right_change"),
    ("latent", "latent off: as many passes as text", passes("latent", 40), "passes_saved"),
    ("latent", "wrong in spans", saying(" s9", "latent"), "latent_accuracy"),
    ("latent", "wrong in text", saying(" s9", "text"), "text_accuracy"),
    ("latent", "wrong at the deepest", deepest, "latent_accuracy_deepest"),
    ("latent", "cut off", cut_off("latent"), "latent_accuracy"),
]
