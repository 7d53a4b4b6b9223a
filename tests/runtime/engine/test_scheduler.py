"""Many generations at once give what each gives alone, whatever joins, leaves or is cancelled, and nothing stays behind."""

from __future__ import annotations

import gc
import itertools
import threading
import time
import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import numpy as np
import pytest
from fakes.byte_tokenizer import byte_tokenizer
from fakes.function_backend import FunctionBackend, ListCache
from hypothesis import given, settings
from hypothesis import strategies as st

from interlock.errors import StageFailed, UsageError
from runtime.backends.protocol import Step, Vector
from runtime.engine.generate import generate
from runtime.engine.latent import LatentParams
from runtime.engine.sampling import SamplingParams
from runtime.engine.scheduler import CHUNK, Job, Limits, QueueFull, Scheduler
from runtime.engine.turn import Generation, GenerationParams, Turn

TOKENIZER = byte_tokenizer()
SIZE = TOKENIZER.vocab_size
LATENT = LatentParams(bot_id=1, eot_id=2, max_spans=2, max_slots=3)


class Known(ListCache):
    """Every one is known to `made` for as long as somebody holds it."""

    def __init__(self, ids: list[int], made: list[weakref.ref[Known]]) -> None:
        super().__init__(ids)
        self.made = made
        made.append(weakref.ref(self))

    def copy(self, position: int) -> Known:
        return Known(self.ids[:position], self.made)


class Uncopied(Known):
    copy: Any = None


class Hashing(FunctionBackend):
    """Logits that depend on every input so far and on its order; a latent vector counts as an id."""

    cache: ClassVar[type[Known]] = Known

    def __init__(self, capacity: int = 600) -> None:
        super().__init__(self._said, capacity)
        self.halt_of: Callable[[Sequence[int]], Vector] | None = self._halt
        self.pieces: list[tuple[int, int]] = []  # position and length of what prefill was given
        self.slowness = 0.0
        self.made: list[weakref.ref[Known]] = []

    def new_cache(self) -> ListCache:
        return self.cache([], self.made)

    def held_bytes(self) -> int:
        """Of the caches that anybody still holds."""
        return sum(cache.size_bytes for cache in (one() for one in self.made) if cache is not None)

    def _said(self, ids: Sequence[int]) -> Vector:
        return np.random.default_rng([len(ids), *(token % 1000 for token in ids[-40:]), sum(ids)]).normal(size=SIZE).astype(np.float32)

    def _halt(self, ids: Sequence[int]) -> Vector:
        return np.array([0, sum(ids) % 7 - 3], np.float32)

    def prefill(self, ids: Sequence[int], cache: ListCache) -> Step:
        time.sleep(self.slowness)
        self.pieces.append((cache.position, len(ids)))
        return super().prefill(ids, cache)

    def decode(self, inp: int | Vector, cache: ListCache) -> Step:
        return self._step([inp if isinstance(inp, int) else int(abs(inp[0]) * 100) + 1000], cache)

    def _step(self, ids: Any, cache: ListCache) -> Step:
        step = super()._step(ids, cache)
        return Step(step.logits, step.halt_logits, step.logits[:1])


class Moved(Hashing):
    """Its caches cannot be copied."""

    cache = Uncopied


@dataclass
class Watched:
    """A turn, what it streamed, and when it was over."""

    turn: Turn
    pieces: list[str]
    over: threading.Event = field(default_factory=threading.Event)
    error: Exception | None = None

    def told(self, job: Job[Any]) -> None:
        if job.done:
            self.error = job.error
            self.over.set()

    def result(self) -> Generation:
        assert self.over.wait(10)
        assert self.error is None
        return self.turn.result()


def watched(backend: FunctionBackend, ids: Sequence[int], params: GenerationParams) -> Watched:
    pieces: list[str] = []
    return Watched(Turn(TOKENIZER, ids, params, backend.capacity, pieces.append), pieces)


def plain(generation: Generation) -> tuple[Any, ...]:
    """All but times."""
    trace = generation.latent.as_dict() if generation.latent else None
    return generation.text, generation.tokens, generation.reason, generation.prompt_tokens, trace, generation.logprobs


beginnings = st.sampled_from([[], list(range(3, 60)), list(range(3, 60)) * 5])
prompts = st.tuples(beginnings, st.lists(st.integers(3, SIZE - 1), min_size=1, max_size=30)).map(lambda parts: [*parts[0], *parts[1]])
asked = st.builds(
    GenerationParams,
    sampling=st.builds(SamplingParams, temperature=st.sampled_from([0.0, 0.8]), seed=st.integers(0, 9), top_p=st.sampled_from([1.0, 0.7])),
    max_new_tokens=st.integers(1, 25),
    stop=st.sampled_from([(), ("e",), ("ab", "z")]),
    eos_ids=st.sampled_from([(), (5, 6, 7)]),
    latent=st.sampled_from([None, LATENT]),
    halt_threshold=st.sampled_from([None, 0.9]),
    logprobs=st.sampled_from([None, 0, 3]),
    drafts=st.sampled_from([0, 3]),
)
limits = st.builds(Limits, running=st.integers(1, 5), waiting=st.just(100), kept_bytes=st.sampled_from([0, 3000, 1 << 20]))


@settings(max_examples=40, deadline=None)
@given(
    kind=st.sampled_from([Hashing, Moved]),
    requests=st.lists(st.tuples(prompts, asked, st.sampled_from(["wait", "go on"]) | st.integers(0, 9)), min_size=1, max_size=10),
    chosen=limits,
)
def test_each_gets_what_it_would_get_alone_and_what_is_cancelled_leaves_nothing(
    kind: Callable[[], Hashing], requests: list[Any], chosen: Limits
) -> None:
    """In any order of arrival, beside any others, with prefixes shared or not; a number is the step of its own at which one is cancelled. At the end
    nobody holds a cache but those that are kept for what comes later."""
    backend = kind()
    scheduler = Scheduler(backend, chosen)
    running = []
    try:
        for ids, params, then in requests:
            one = watched(backend, ids, params)
            (job,) = scheduler.submit([(one.turn, cancelling(scheduler, then) if isinstance(then, int) else one.told)])
            if then == 0:
                scheduler.cancel(job)
            elif not isinstance(then, int):
                running.append((one, ids, params))
            if then == "wait":
                one.result()
        for one, ids, params in running:
            found, alone = one.result(), generate(kind(), TOKENIZER, ids, params)
            assert plain(found) == plain(alone)
            assert "".join(one.pieces) == alone.text
        _settled(scheduler)
        assert backend.held_bytes() == scheduler.counts()[2]
    finally:
        scheduler.close()


def cancelling(scheduler: Scheduler[Any], last: int) -> Callable[[Job[Any]], None]:
    """A listener that has had enough at that step."""
    steps = itertools.count(1)

    def told(job: Job[Any]) -> None:
        if next(steps) == last:
            scheduler.cancel(job)

    return told


def _settled(scheduler: Scheduler[Any]) -> None:
    deadline = time.monotonic() + 30
    while scheduler.counts()[:2] != (0, 0):
        assert time.monotonic() < deadline
        time.sleep(0.001)


@pytest.mark.train
def test_a_students_answers_do_not_depend_on_who_else_asks() -> None:
    """Twelve prompts over a student with random weights, half with a beginning in common, some longer than a piece; then again, from kept caches."""
    from fakes.students import some_ids, tiny_student

    from interlock.contracts.checkpoint import ModelArch
    from runtime.backends.eager import eager_from

    student = tiny_student(ModelArch(use_halt_head=True), vocab_size=SIZE)
    backend = eager_from(student)
    ids = some_ids(student.arch, 12, 50, seed=2).tolist()
    prompts = [(ids[0] * 3 if number % 2 else []) + row[: 3 + 4 * number] for number, row in enumerate(ids)]
    params = [GenerationParams(max_new_tokens=20, latent=LATENT if number % 3 == 0 else None) for number in range(12)]
    alone = [plain(generate(backend, TOKENIZER, prompt, one)) for prompt, one in zip(prompts, params, strict=True)]
    scheduler = Scheduler(backend, Limits(running=5))
    for _ in range(2):
        many = [Watched(Turn(TOKENIZER, prompt, one, backend.capacity), []) for prompt, one in zip(prompts, params, strict=True)]
        scheduler.submit([(one.turn, one.told) for one in many])
        assert [plain(one.result()) for one in many] == alone
    scheduler.close()


def test_a_long_prompt_is_read_in_pieces_between_the_others_steps() -> None:
    """While 5 pieces are read, whoever answers gets a step for each."""
    backend = Hashing(capacity=4096)
    scheduler = Scheduler(backend, Limits())
    answering = watched(backend, [3, 4], GenerationParams(max_new_tokens=2000))
    long = watched(backend, [9] * (4 * CHUNK + 10), GenerationParams(max_new_tokens=1))
    backend.slowness = 0.02
    steps: list[int] = []

    def told(job: Job[Any]) -> None:
        steps.append(len(backend.pieces))
        answering.told(job)

    (first,) = scheduler.submit([(answering.turn, told)])
    scheduler.submit([(long.turn, long.told)])
    long.result()
    scheduler.cancel(first)
    scheduler.close()
    assert [piece for piece in backend.pieces if piece != (0, 2)] == [(start * CHUNK, CHUNK) for start in range(4)] + [(4 * CHUNK, 10)]
    assert {1, 2, 3, 4, 5} <= set(steps)  # an answer's step came after each piece


def test_the_same_beginning_is_read_once() -> None:
    """Eight requests at a time with one system prompt: 300 ids are computed once, and each reads its own question only."""
    backend = Hashing()
    scheduler = Scheduler(backend, Limits(running=8))
    system = [11] * 300
    many = [watched(backend, [*system, 20 + number, 21], GenerationParams(max_new_tokens=3)) for number in range(8)]
    scheduler.submit([(one.turn, one.told) for one in many])
    for number, one in enumerate(many):
        assert plain(one.result()) == plain(generate(Hashing(), TOKENIZER, [*system, 20 + number, 21], GenerationParams(max_new_tokens=3)))
    scheduler.close()
    assert sum(length for _, length in backend.pieces) <= 302 + 7 * 2


@pytest.mark.parametrize("kind", [Hashing, Moved])
def test_a_conversation_goes_on_from_its_kept_cache(kind: Callable[[], Hashing]) -> None:
    backend = kind()
    scheduler = Scheduler(backend, Limits())
    first = watched(backend, [8] * 200, GenerationParams(max_new_tokens=40))
    scheduler.submit([(first.turn, first.told)])
    said = first.result().tokens
    second = watched(backend, [*[8] * 200, *said, 30, 31], GenerationParams(max_new_tokens=1))
    (job,) = scheduler.submit([(second.turn, second.told)])
    second.result()
    scheduler.close()
    assert job.reused == 239  # the last token was said and never fed
    assert backend.pieces[-1][0] == 239


def test_kept_caches_stay_within_their_limit() -> None:
    backend = Hashing()
    scheduler = Scheduler(backend, Limits(kept_bytes=5000))
    for number in range(3, 9):
        one = watched(backend, [number] * 200, GenerationParams(max_new_tokens=1))
        scheduler.submit([(one.turn, one.told)])
        one.result()
        _settled(scheduler)
        assert 1600 <= scheduler.counts()[2] <= 5000
    for number, reused in ((8, 199), (3, 0)):  # the newest are there, the oldest are not
        again = watched(backend, [number] * 200, GenerationParams(max_new_tokens=1))
        (job,) = scheduler.submit([(again.turn, again.told)])
        again.result()
        assert job.reused == reused
    scheduler.close()


def test_a_cancelled_generation_leaves_nothing() -> None:
    backend = Hashing(capacity=100_000)
    scheduler = Scheduler(backend, Limits(running=1))
    one = watched(backend, [3, 4], GenerationParams(max_new_tokens=50_000))
    started = threading.Event()
    (job,) = scheduler.submit([(one.turn, lambda job: started.set())])
    waits = watched(backend, [5, 6], GenerationParams(max_new_tokens=1))
    (second,) = scheduler.submit([(waits.turn, waits.told)])
    assert started.wait(30)
    cache = weakref.ref(job.cache) if job.cache is not None else None
    assert cache is not None and cache() is not None
    scheduler.cancel(second)
    assert scheduler.counts()[1] == 0
    scheduler.cancel(job)
    _settled(scheduler)
    gc.collect()
    assert cache() is None and scheduler.counts() == (0, 0, 0)
    assert not waits.turn.steps
    scheduler.close()


def test_more_than_may_wait_are_refused_together() -> None:
    backend = Hashing(capacity=100_000)
    backend.slowness = 0.2
    scheduler = Scheduler(backend, Limits(running=1, waiting=2))
    many = [watched(backend, [3, 4], GenerationParams(max_new_tokens=1)) for _ in range(4)]
    with pytest.raises(QueueFull) as refused:
        scheduler.submit([(one.turn, one.told) for one in many])
    assert "ask again" in refused.value.remedy
    scheduler.submit([(one.turn, one.told) for one in many[:3]])
    with pytest.raises(QueueFull):
        scheduler.submit([(many[3].turn, many[3].told)])
    for one in many[:3]:
        one.result()
    scheduler.close()
    with pytest.raises(QueueFull, match="stopping"):
        scheduler.submit([(many[3].turn, many[3].told)])


def test_one_mistake_ends_its_own_request_only(capsys: pytest.CaptureFixture[str]) -> None:
    """A head that is not there, logits that are no numbers, and a bug of ours."""
    backend = Hashing()
    scheduler = Scheduler(backend, Limits())
    sound = watched(backend, [3, 4], GenerationParams(max_new_tokens=30))
    backend.halt_of = None
    headless = watched(backend, [5, 6], GenerationParams(max_new_tokens=30, halt_threshold=0.5))
    broken = watched(backend, [7] * 20, GenerationParams(max_new_tokens=30))
    bug = watched(backend, [8] * 20, GenerationParams(max_new_tokens=30))
    said = backend.logits_of

    def logits_of(ids: Sequence[int]) -> Vector:
        if ids[0] == 8:
            raise ZeroDivisionError("a bug")
        return said(ids) if ids[0] != 7 else np.full(SIZE, np.nan, np.float32)

    backend.logits_of = logits_of
    scheduler.submit([(one.turn, one.told) for one in (sound, headless, broken, bug)])
    assert plain(sound.result()) == plain(generate(Hashing(), TOKENIZER, [3, 4], GenerationParams(max_new_tokens=30)))
    for one, kind, words in ((headless, UsageError, "no halt head"), (broken, StageFailed, "not finite"), (bug, StageFailed, "could not be run")):
        assert one.over.wait(30)
        assert isinstance(one.error, kind) and words in str(one.error)
    scheduler.close()
    assert "ZeroDivisionError: a bug" in capsys.readouterr().err


class Cyclic(FunctionBackend):
    """After token n comes n + 1, up to 9, then 3 again: a text that its own beginning foretells."""

    def __init__(self) -> None:
        super().__init__(self._said, 600)
        self.passes: list[int] = []

    @staticmethod
    def _said(ids: Sequence[int]) -> Vector:
        logits = np.zeros(SIZE, np.float32)
        logits[3 + (ids[-1] - 2) % 7] = 1
        return logits

    def decode_many(self, inputs: Any, caches: Any) -> list[Step]:
        self.passes.append(len(inputs))
        return super().decode_many(inputs, caches)


def test_who_is_alone_has_drafts_proven_and_nobody_beside_others() -> None:
    params = GenerationParams(SamplingParams(temperature=0.0), max_new_tokens=60, drafts=5)
    for count in (1, 2):
        backend = Cyclic()
        scheduler = Scheduler(backend, Limits(kept_bytes=0))
        try:
            turns = [watched(backend, [3, 4, 5], params) for _ in range(count)]
            scheduler.submit([(one.turn, one.told) for one in turns])
            for one in turns:
                assert one.result().tokens == generate(Cyclic(), TOKENIZER, [3, 4, 5], replace(params, drafts=0)).tokens
        finally:
            scheduler.close()
        # The first seven are new; after them five of six tokens come for nothing. Of two, one may be alone for its last step.
        assert sum(backend.passes) < 12 if count == 1 else sum(backend.passes) > 100
