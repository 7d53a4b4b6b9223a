"""Canonical JSON: the one form that digests cover.

Here: a pure function without dependencies, so that what must start fast can use it. Not here: contracts, keys.
"""

from __future__ import annotations

import json
from typing import Any


def canonical_json(document: Any) -> bytes:
    """UTF-8, keys sorted, no spaces. Raises ValueError for NaN and infinities."""
    return json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()
