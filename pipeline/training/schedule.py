"""The learning rate of each step.

Here: warm-up and the three ways down. Not here: the optimizer (loop.py).
"""

from __future__ import annotations

import math

from pipeline.training.settings import Settings

# WSD (MiniCPM, arXiv:2404.06395) falls over the last part of the training; a tenth to a fifth is usual.
WSD_FALL = 0.2


def learning_rate(settings: Settings, step: int) -> float:
    """Of optimizer step `step`, from 0. Warm-up is linear and multiplies the schedule, which counts all steps."""
    rise = min(1.0, (step + 1) / settings.warmup) if settings.warmup else 1.0
    return settings.lr * rise * (settings.lr_floor + (1 - settings.lr_floor) * _height(settings, step / settings.steps))


def _height(settings: Settings, progress: float) -> float:
    """1 … 0 over a training."""
    if settings.schedule == "constant":
        return 1.0
    if settings.schedule == "wsd":
        return min(1.0, (1 - progress) / WSD_FALL)
    return 0.5 * (1 + math.cos(math.pi * progress))
