"""One generation by itself: prompt ids in, text out, over any backend.

Here: running the model for one turn until it is over, with guesses of what it is given next where they are wanted. Not here: what it is given and
when it ends (turn.py), where guesses come from (lookup.py), many generations at once.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from runtime.backends.protocol import Backend, CacheT, Step, Vector
from runtime.engine.lookup import Lookup
from runtime.engine.tokenizer import Tokenizer
from runtime.engine.turn import Generation, GenerationParams, Turn
from runtime.engine.writing import OnText


def generate(
    backend: Backend[CacheT], tokenizer: Tokenizer, prompt_ids: Sequence[int], params: GenerationParams, on_text: OnText | None = None
) -> Generation:
    """Continue `prompt_ids` until a token or text that ends it, or a limit.

    `on_text` gets the text in pieces of whole characters, together exactly `Generation.text`; nothing that may still become a stop text is passed on.
    An interrupt (Ctrl-C) ends the generation with what there is. Raises UsageError for a prompt that is empty or longer than the model's positions,
    and for a halt threshold where the model has no halt head.
    """
    turn = Turn(tokenizer, prompt_ids, params, backend.capacity, on_text)
    try:
        cache = backend.new_cache()
        lookup = Lookup(params.drafts)
        while turn.reason is None:
            if guessed := drafts(turn, lookup, backend.capacity - cache.position - 1):
                prove(backend, cache, turn, guessed)
            else:
                turn.take(advance(backend, cache, turn.inputs))
    except KeyboardInterrupt:
        turn.end("interrupted")
    return turn.result()


def advance(backend: Backend[CacheT], cache: CacheT, inputs: Sequence[int] | Vector) -> Step:
    """Append ids, or one latent vector [d] fp32. Returns the step after the last."""
    if isinstance(inputs, np.ndarray):
        return backend.decode(inputs, cache)
    return backend.prefill(inputs, cache) if len(inputs) > 1 or cache.position == 0 else backend.decode(inputs[0], cache)


def prove(backend: Backend[CacheT], cache: CacheT, turn: Turn, guessed: Sequence[int]) -> None:
    """Give the turn the steps of its next token and of as many drafts after it as it would have asked for, from one pass of the model.

    A step is, bit for bit, what `decode` returns, and the turn decides as ever: it says what it would have said.
    """
    start, inputs = cache.position, turn.inputs
    assert isinstance(inputs, list) and len(inputs) == 1
    steps = backend.score([*inputs, *guessed], cache)
    taken = 0
    for step, draft in zip(steps, [*guessed, None], strict=True):
        turn.take(step)
        taken += 1
        if turn.reason is not None or not isinstance(turn.inputs, list) or turn.inputs != [draft]:
            break
    cache.rewind(start + taken)


def drafts(turn: Turn, lookup: Lookup, room: int) -> list[int]:
    """Guesses at what follows the token that is next, at most `room`; none before a prompt, after several tokens, or in a latent span."""
    if isinstance(turn.inputs, np.ndarray) or len(turn.inputs) > 1 or turn.inputs[-1] != turn.history[-1] or not turn.steps:
        return []
    return lookup.after(turn.history)[: max(room, 0)]
