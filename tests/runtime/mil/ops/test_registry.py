"""The table against the real one of coremltools, and its proofs against the tests that are there."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

import pytest

from runtime.mil.ops.registry import CONSTANT_OPERATIONS, NOT_DONE, OPERATIONS
from runtime.mil.plan import STRUCTURE

ENTRIES = {**OPERATIONS, **CONSTANT_OPERATIONS}
# Saved under another name than the converter's dialect has (coreml_update_state).
SAVED_ONLY = {"write_state"}


def test_every_proof_is_a_test() -> None:
    folder = Path(__file__).parents[1]
    for name, proof in {**{name: entry.proof for name, entry in ENTRIES.items()}, **STRUCTURE}.items():
        file, function = proof.split("::")
        assert re.search(rf"^def {function}\(", (folder / file).read_text(), re.MULTILINE), f"{name}: {proof}"


@pytest.mark.export
@pytest.mark.filterwarnings("ignore")
def test_the_table_has_every_operation_of_coremltools() -> None:
    from coremltools.converters.mil.mil.ops.registry import SSAOpRegistry

    done, left = set(ENTRIES) | set(STRUCTURE), {name for name in NOT_DONE if " (" not in name}
    assert done | left == set(SSAOpRegistry.core_ops) | SAVED_ONLY
    assert not done & left
    assert {name.split(" (")[0] for name in NOT_DONE if " (" in name} <= done


@pytest.mark.export
@pytest.mark.filterwarnings("ignore")
def test_operations_take_the_parameters_of_every_version() -> None:
    from coremltools.converters.mil.mil.ops.registry import SSAOpRegistry

    for name, versions in SSAOpRegistry.core_ops.items():
        if name in ENTRIES:
            theirs = [spec.input_spec.input_types for spec in versions.values()]
            assert set(ENTRIES[name].parameters) == set().union(*theirs), name
            # what one version lets out, we let out
            needed = {parameter.name for parameter in ENTRIES[name].parameters.values() if parameter.required}
            assert all(needed <= {key for key, kind in spec.items() if not kind.optional} for spec in theirs), name


@pytest.mark.export
@pytest.mark.filterwarnings("ignore")
def test_what_is_left_out_has_the_value_of_coremltools() -> None:
    """Defaults that do not depend on other parameters; where ours is None the function says what is meant."""
    from coremltools.converters.mil.mil.ops.registry import SSAOpRegistry

    compared = 0
    for name, versions in SSAOpRegistry.core_ops.items():
        for spec in {id(spec): spec for spec in versions.values() if name in ENTRIES}.values():
            try:
                theirs = spec.default_inputs(object.__new__(spec))
            except AttributeError:
                continue
            ours = inspect.signature(ENTRIES[name].run).parameters
            for key, value in theirs.items():
                if value is not None and ours[key].default is not None:
                    assert ours[key].default == value if isinstance(value, str) else float(ours[key].default) == pytest.approx(float(value)), (
                        name,
                        key,
                    )
                    compared += 1
    assert compared > 100
