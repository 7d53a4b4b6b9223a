"""Options of `serve` that are no options, refused before anything is loaded."""

from __future__ import annotations

from pathlib import Path

import pytest

from interlock.command import Session, parser
from interlock.errors import UsageError
from interlock.voice import SilentVoice
from pipeline.verbs import serve

pytestmark = pytest.mark.train


@pytest.mark.parametrize(("option", "value"), [("port", "65536"), ("port", "99999"), ("parallel", "0"), ("threads", "0"), ("request-timeout", "nan")])
def test_a_number_out_of_its_range_is_named(tmp_path: Path, option: str, value: str) -> None:
    """A port beyond the last one too: a socket would take what is left of it after a division, and answer somewhere else."""
    options = parser("interlock serve", "", "")
    serve.add_options(options)
    with pytest.raises(UsageError, match=f"--{option} {value}"):
        serve.run(options.parse_args([str(tmp_path), f"--{option}", value]), Session("serve", SilentVoice(), (), launch=False))
