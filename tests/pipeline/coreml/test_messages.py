"""What the converter says is collected, told apart and kept off the terminal."""

from __future__ import annotations

import logging
import subprocess
import sys
import warnings

import pytest
from fakes.converted_students import converted

from pipeline.coreml.messages import classified, collected


def test_log_lines_and_warnings_are_collected_and_nothing_is_printed(capfd: pytest.CaptureFixture[str]) -> None:
    with collected() as lines:
        logging.getLogger("coremltools").warning("from the %s", "log")
        warnings.warn("from Python", DeprecationWarning, stacklevel=1)
        warnings.warn("at the mercy of the collector", ResourceWarning, stacklevel=1)
    assert lines == ["from the log", "DeprecationWarning: from Python"]
    assert capfd.readouterr() == ("", "")


def test_listening_ends_with_the_block() -> None:
    handlers = list(logging.getLogger("coremltools").handlers)
    with pytest.raises(RuntimeError), collected() as lines:
        raise RuntimeError
    logging.getLogger("coremltools").debug("later")
    assert lines == [] and logging.getLogger("coremltools").handlers == handlers


def test_unknown_messages_have_no_reason_and_equal_ones_are_counted() -> None:
    messages = classified(["Torch var k_cache is added again.", "the sky  is\nfalling", "Torch var k_cache is added again."])
    assert [(message.text, message.count, message.harmless is not None) for message in messages] == [
        ("Torch var k_cache is added again.", 2, True), ("the sky is falling", 1, False),
    ]  # fmt: skip


def test_machine_paths_are_removed() -> None:
    (message,) = classified(["cannot read /srv/somebody/cache/x-1.bin at 3/4 of it"])
    assert message.text == "cannot read <path> at 3/4 of it"


@pytest.mark.export
def test_a_conversion_says_nothing_unknown() -> None:
    messages = classified(converted().said)
    assert messages and not [message.text for message in messages if message.harmless is None]


@pytest.mark.export
def test_the_converter_is_loaded_once_and_its_first_words_are_kept() -> None:
    """In a process of its own: a library speaks when it is first imported, and another test may have done that."""
    script = (
        "from pipeline.coreml.messages import load_converter as load; first, said = load(); assert load()[0] is first; print(first.__name__, said)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=300)
    assert done.stdout.startswith("coremltools ") and "libcoremlpython" in done.stdout
