"""Lists against Python's own, as single operations and in a loop of a saved program."""

from __future__ import annotations

import numpy as np
import pytest
from fakes.programs import constant, evaluate, opened, operation, program, tensor
from hypothesis import given, settings
from hypothesis import strategies as st

from interlock.errors import ContractError
from runtime.mil import Runner
from runtime.mil.program import BY_NAME, ListType, TensorType

LIST = ListType(TensorType(BY_NAME["fp32"], (2,)), None)


@settings(max_examples=50, deadline=None)
@given(writes=st.lists(st.tuples(st.integers(0, 6), st.floats(-9, 9, width=16)), max_size=5), start=st.integers(0, 3))
def test_lists_grow_as_they_are_written(writes: list[tuple[int, float]], start: int) -> None:
    steps = [operation("make_list", {"l0": LIST}, elem_shape=(constant(2),), init_length=constant(start), dtype=constant("fp32"))]
    plain = [[0.0, 0.0]] * start
    for at, (index, value) in enumerate(writes):
        steps.append(operation("list_write", {f"l{at + 1}": LIST}, ls=f"l{at}", index=constant(index), value=constant(np.float32([value, -value]))))
        plain += [[0.0, 0.0]] * (index + 1 - len(plain))
        plain[index] = [value, -value]
    last = f"l{len(writes)}"
    steps.append(operation("list_length", {"length": tensor("int32")}, ls=last))
    steps.append(operation("list_gather", {"all": tensor("fp32", None, 2)}, ls=last, indices=constant(np.arange(len(plain), dtype=np.int32))))
    found = Runner(program(steps, {}, ("length", "all"))).run("main", {})
    assert int(found["length"]) == len(plain)
    np.testing.assert_array_equal(found["all"], np.float32(plain).reshape(-1, 2))


def test_scattering_writes_in_order() -> None:
    given_list = np.arange(6, dtype=np.float32).reshape(3, 2)
    value = np.float32([[1, 2], [3, 4], [5, 6]])
    found = evaluate("list_scatter", ls=given_list, indices=(1, 4, 1), value=value)
    np.testing.assert_array_equal(found, [[0, 1], [5, 6], [4, 5], [0, 0], [3, 4]])
    np.testing.assert_array_equal(evaluate("list_read", ls=given_list, index=2), [4, 5])


@pytest.mark.parametrize("index", [-1, 3])
def test_reading_outside_is_refused(index: int) -> None:
    with pytest.raises(ContractError, match="in a list of 3"):
        evaluate("list_read", ls=np.zeros((3, 2), np.float32), index=index)


@pytest.mark.export
@pytest.mark.filterwarnings("ignore")
def test_a_list_goes_through_a_loop() -> None:
    """A program of coremltools' builder, saved: squares written one by one."""
    import coremltools as ct
    from coremltools.converters.mil.mil import Builder as mb
    from coremltools.converters.mil.mil import types

    @mb.program(input_specs=[mb.TensorSpec(shape=(1,), dtype=types.int32)])  # type: ignore[untyped-decorator]
    def model(times: object) -> object:
        def going(at: object, made: object) -> object:
            return mb.squeeze(x=mb.less(x=at, y=times))

        def step(at: object, made: object) -> object:
            index = mb.squeeze(x=at)
            return mb.add(x=at, y=1), mb.list_write(ls=made, index=index, value=mb.cast(x=mb.mul(x=at, y=at), dtype="fp32"))

        made = mb.make_list(init_length=1, elem_shape=(1,))
        made = mb.while_loop(_cond=going, _body=step, loop_vars=(np.array([0], np.int32), made))[1]
        return mb.list_gather(ls=made, indices=mb.range_1d(start=0, end=mb.list_length(ls=made), step=1))

    runner = Runner(opened(model, compute_precision=ct.precision.FLOAT32))
    (found,) = runner.run("main", {"times": np.array([5], np.int32)}).values()
    np.testing.assert_array_equal(found.ravel(), [0, 1, 4, 9, 16])
