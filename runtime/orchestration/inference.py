"""The orchestrator: a loaded model, the configuration that holds for it, and the ways to ask it. What the deployment guide's Python example uses.

Here: the object and how it is made. Not here: the loop of attempts (attempts.py), judges, options of the command line (runtime/infer).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, TypedDict

from interlock.contracts.deployment import RUNTIME_CONFIG
from interlock.errors import UsageError
from runtime.config import RuntimeConfig
from runtime.effective import File, Resolved, read_file, resolve
from runtime.engine.generate import generate
from runtime.engine.tokenizer import Tokenizer
from runtime.engine.turn import Generation, GenerationParams
from runtime.engine.writing import OnText
from runtime.limits import Model
from runtime.load import BackendName, Loaded, load
from runtime.orchestration.attempts import Attempt, OnAttempt, Refined, refine
from runtime.orchestration.judges.verdict import Judge, JudgeFn, of_function
from runtime.orchestration.parameters import Choices, generation_params
from runtime.orchestration.prompts import Conversation, asked, encode
from runtime.orchestration.refine import Rules
from runtime.tools.options import Form

ARGUMENT = "argument"


class RefinementResult(TypedDict):
    """output, final_score: of the best attempt, the score None without a judge; latent_mode_used: whether any span was run; halt_head_used: whether
    the head was asked; curriculum_applied: whether a span was put after a prompt. Plain values, fit for JSON."""

    output: str
    final_score: float | None
    total_loops: int
    halt_reason: str
    refinement_history: list[dict[str, Any]]
    latent_mode_used: bool
    halt_head_used: bool
    curriculum_applied: bool
    efficiency: dict[str, Any] | None


@dataclass(frozen=True)
class InferenceOrchestrator:
    """Safe to use for any number of requests, one after another: nothing of a request is kept. raw: prompts are continued as they are, without the
    model's chat template. form: what every answer is held to, or the tools that it may call."""

    loaded: Loaded
    resolved: Resolved
    choices: Choices = field(default_factory=Choices)
    raw: bool = False
    form: Form = field(default_factory=Form)

    @property
    def config(self) -> RuntimeConfig:
        """What holds, after tier and training."""
        return self.resolved.config

    @property
    def params(self) -> GenerationParams:
        """Of one answer. Raises UsageError for choices out of range, and for a form that no answer can have."""
        return self.form.hold(self.loaded.tokenizer, generation_params(self.loaded, self.config, self.choices))

    @property
    def rules(self) -> Rules:
        """Of refinement."""
        halts = self.config.halt_probability_threshold if self.config.halt_head_enabled else None
        return Rules(self.config.judge_score_threshold, halts, self.config.max_refinement_loops)

    def generate(self, prompt: str | Sequence[Mapping[str, str]], on_text: OnText | None = None) -> Generation:
        """One answer to a message or a conversation; `on_text` gets it in pieces. An interrupt ends it with what there is."""
        conversation, params = self._conversation(prompt), self.params
        if self.form.tools:
            told = self.form.ask(self.loaded.tokenizer, conversation.messages, params)
            return generate(self.loaded.backend, self.loaded.tokenizer, told.prompt_ids, told.params, on_text)
        return generate(self.loaded.backend, self.loaded.tokenizer, encode(self.loaded.tokenizer, conversation), params, on_text)

    def generate_simple(self, prompt: str) -> str:
        """The text of one answer."""
        made = self.generate(prompt)
        if made.reason == "interrupted":
            raise KeyboardInterrupt
        return made.text

    def refine(self, prompt: str | Sequence[Mapping[str, str]], judge: Judge | None = None, on_attempt: OnAttempt | None = None) -> Refined:
        """Attempts until the judge, or without one the halt head, is content, or the tier's loops are used up."""
        return refine(self.loaded, self._conversation(prompt), self.params, self.rules, judge, on_attempt)

    def generate_with_refinement(self, prompt: str, judge_fn: JudgeFn | None = None, *, judge: Judge | None = None) -> RefinementResult:
        """The guide's form of `refine`. judge_fn: the score, 0 to 1, of an answer; judge: one that sees the request too."""
        if judge_fn and judge:
            raise UsageError("judge_fn and judge are both given", remedy="give one of them")
        made = self.refine(prompt, of_function(judge_fn) if judge_fn else judge)
        if made.attempts[-1].generation.reason == "interrupted":
            raise KeyboardInterrupt
        return report(made, self.config)

    def _conversation(self, prompt: str | Sequence[Mapping[str, str]]) -> Conversation:
        return asked(prompt, raw=self.raw)


def report(made: Refined, config: RuntimeConfig) -> RefinementResult:
    """A refinement in the guide's fields. The last decision's reason ended it. efficiency: None where the configuration wants none."""
    attempts, end = made.attempts, made.attempts[-1].decision.halt_reason
    traces = [one.generation.latent for one in attempts if one.generation.latent]
    return {
        "output": made.answer.generation.text,
        "final_score": made.answer.verdict.score if made.answer.verdict else None,
        "total_loops": len(attempts),
        "halt_reason": str(end),
        "refinement_history": [_history(one) for one in attempts],
        "latent_mode_used": any(trace.spans for trace in traces),
        "halt_head_used": any(one.head_asked for one in attempts),
        "curriculum_applied": any(one.forced for one in attempts),
        "efficiency": made.efficiency.as_dict() if config.enable_efficiency_tracking else None,
    }


def _history(attempt: Attempt) -> dict[str, Any]:
    made, verdict, decision = attempt.generation, attempt.verdict, attempt.decision
    transitions = made.latent.as_dict()["transitions"] if made.latent else []
    return {
        "loop": decision.loop,
        "output": made.text,
        "reason": made.reason,
        "score": verdict.score if verdict else None,
        "feedback": verdict.feedback if verdict else "",
        "failing": verdict.failing if verdict else 0,
        "judge": dict(verdict.record) if verdict else {},
        "halt_logits": list(made.halt_logits) if made.halt_logits else None,
        "mode_transitions": transitions,
        **{name: value for name, value in asdict(decision).items() if name not in ("loop", "judge_score")},
    }


def opened(
    directory: Path, backend: BackendName = "eager", *, config: Path | None = None, environ: Mapping[str, str] | None = None,
    given: Mapping[str, Any] | None = None,
) -> InferenceOrchestrator:  # fmt: skip
    """A directory loaded, with the configuration that holds. given: fields of it, under the name `argument`. Raises as `runtime.load.load` and
    `runtime.effective.resolve` do."""
    loaded = load(directory, backend)
    return InferenceOrchestrator(loaded, configured(loaded, directory, config, environ, given, ARGUMENT))


def configured(
    loaded: Loaded, directory: Path, config: Path | None, environ: Mapping[str, str] | None, given: Mapping[str, Any] | None, giver: str
) -> Resolved:
    """What holds for a loaded model. config: a file in place of the directory's own."""
    file = read_file(config) if config else File(str(directory / RUNTIME_CONFIG), loaded.config) if loaded.config else None
    return resolve(file, Model(loaded.training), environ=environ, given=given, giver=giver)


def create_inference_orchestrator_from_checkpoint(
    checkpoint_path: str | Path,
    tokenizer: object = None,
    latent_mode_enabled: bool | None = None,
    halt_head_enabled: bool | None = None,
    caws_tier: str | None = None,
    *,
    backend: BackendName = "eager",
) -> InferenceOrchestrator:
    """The guide's way to an orchestrator. checkpoint_path: a deployed directory, an exported file in one, or a checkpoint directory; every weight
    must fit. tokenizer: None, or the model's own (a `Tokenizer` of ours, or one with `get_vocab()`): another is refused. The rest stands over the
    directory's configuration, which is taken whole; None leaves a field as it is there.

    Raises ContractError, UsageError and EnvironmentRefused.
    """
    path = Path(checkpoint_path)
    directory = path.parent if path.is_file() else path
    given = {"latent_mode_enabled": latent_mode_enabled, "halt_head_enabled": halt_head_enabled, "caws_tier": caws_tier}
    made = opened(directory, backend, given={name: value for name, value in given.items() if value is not None})
    _check_tokenizer(made.loaded, tokenizer)
    return made


def _check_tokenizer(loaded: Loaded, tokenizer: object) -> None:
    remedy = "give the tokenizer that the model was made with, or None"
    if tokenizer is None or (isinstance(tokenizer, Tokenizer) and tokenizer.info.sha256 == loaded.info.sha256):
        return
    vocabulary = getattr(tokenizer, "get_vocab", None)
    if isinstance(tokenizer, Tokenizer) or vocabulary is None:
        found = "another model's" if vocabulary is None and isinstance(tokenizer, Tokenizer) else f"a {type(tokenizer).__name__}"
        raise UsageError(f"the tokenizer is not the model's own: it is {found}", remedy=remedy)
    theirs = vocabulary()
    wrong = [token for token, number in theirs.items() if loaded.tokenizer.token_string(number) != token]
    if wrong or len(theirs) != loaded.tokenizer.vocab_size:
        told = f"it has {len(theirs)} tokens" if not wrong else f"`{wrong[0]}` is another token there"
        raise UsageError(f"the tokenizer is not the model's own: {told}", remedy=remedy)
