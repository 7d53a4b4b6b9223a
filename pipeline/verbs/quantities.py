"""Sizes, durations and bounds as people write them on a command line.

Here: parsing for argparse. Not here: how quantities are printed (interlock/voice.py).
"""

from __future__ import annotations

import argparse
import contextlib
import re

BYTES = {None: 1.0, "B": 1.0, "kB": 1e3, "MB": 1e6, "GB": 1e9}
SECONDS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


def size(text: str) -> int:
    """`120MB`, `1.5 GB`, or bytes; units are powers of a thousand, as reports print them."""
    found = re.fullmatch(r"(\d{1,15}(?:\.\d{1,6})?) ?([kMG]?B)?", text.strip())
    if not found or (bytes_ := int(float(found[1]) * BYTES[found[2]])) < 1:
        raise argparse.ArgumentTypeError(f"`{text}` is no size: give bytes, or a number and kB, MB or GB")
    return bytes_


def bound(text: str) -> tuple[str, float]:
    """`NAME=VALUE`, of a gate; the value is finite and not below 0."""
    name, mark, value = text.partition("=")
    with contextlib.suppress(ValueError):
        if mark and name and 0 <= (limit := float(value)) < float("inf"):
            return name, limit
    raise argparse.ArgumentTypeError(f"`{text}` is no bound: give NAME=VALUE, as in psnr_db=60")


def duration(text: str) -> float:
    """`90s`, `12h`, `30d`, in seconds."""
    found = re.fullmatch(r"(\d{1,9})([smhd])", text.strip())
    if not found:
        raise argparse.ArgumentTypeError(f"`{text}` is no duration: give a number and s, m, h or d")
    return int(found[1]) * SECONDS[found[2]]


def part(text: str) -> tuple[int, int]:
    """`I/N`: the I-th of N parts, from 1."""
    found = re.fullmatch(r"(\d{1,4})/(\d{1,4})", text)
    if not found or not 1 <= int(found[1]) <= int(found[2]):
        raise argparse.ArgumentTypeError(f"`{text}` is no part: give I/N, as in 1/4")
    return int(found[1]), int(found[2])
