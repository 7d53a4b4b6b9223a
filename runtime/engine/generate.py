"""One generation by itself: prompt ids in, text out, over any backend.

Here: running the model for one turn until it is over. Not here: what it is given and when it ends (turn.py), many generations at once.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from runtime.backends.protocol import Backend, CacheT, Step, Vector
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
        while turn.reason is None:
            turn.take(advance(backend, cache, turn.inputs))
    except KeyboardInterrupt:
        turn.end("interrupted")
    return turn.result()


def advance(backend: Backend[CacheT], cache: CacheT, inputs: Sequence[int] | Vector) -> Step:
    """Append ids, or one latent vector [d] fp32. Returns the step after the last."""
    if isinstance(inputs, np.ndarray):
        return backend.decode(inputs, cache)
    return backend.prefill(inputs, cache) if len(inputs) > 1 or cache.position == 0 else backend.decode(inputs[0], cache)
