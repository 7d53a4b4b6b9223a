"""`NAME=VALUE` on a command line.

Here: taking one apart. Not here: what the names mean.
"""

from __future__ import annotations

from interlock.errors import UsageError


def pair(text: str) -> tuple[str, str]:
    """The name and the value. Raises UsageError."""
    name, sign, value = text.partition("=")
    if not name or not sign or not value:
        raise UsageError(f"`{text}` sets nothing", remedy="give a name and a value with `=` between them, such as train=64000")
    return name, value
