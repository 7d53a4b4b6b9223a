"""Faults that a converter, a merge or a damaged disk could cause, planted into a saved package by seed.

Each kind edits the saved protobuf or the stored weights of a copy and says which operations carry it: those that it changed, those that take a
changed constant, and where it removed an operation those that read what is now missing. Environment `export` only (the published protobuf classes).
"""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

MODEL = Path("Data/com.apple.CoreML/model.mlmodel")
WEIGHTS = Path("Data/com.apple.CoreML/weights/weight.bin")
FP16, FP32, INT32, BOOL = 10, 11, 23, 1
Place = tuple[str, str]
_DTYPES = {FP16: np.float16, FP32: np.float32, INT32: np.int32}


@dataclass
class Edit:
    """A package being changed. carriers: (function, value) of every operation that carries the fault."""

    model: Any
    weights: np.ndarray[Any, Any]
    random: random.Random
    carriers: set[Place] = field(default_factory=set)
    made: int = 0

    @property
    def functions(self) -> list[str]:
        return sorted(self.model.mlProgram.functions, key=lambda name: (not name.startswith("prefill"), len(name), name))

    def block(self, function: str) -> Any:
        found = self.model.mlProgram.functions[function]
        return found.block_specializations[found.opset]

    def operations(self, function: str, *kinds: str) -> list[Any]:
        return [op for op in self.block(function).operations if not kinds or op.type in kinds]

    def pick(self, *kinds: str, where: Callable[[str, Any], bool] = lambda function, op: True, function: str | None = None) -> tuple[str, Any]:
        """An operation of these types in one function, by seed. Raises Skip if there is none."""
        among = [(name, op) for name in ([function] if function else self.functions) for op in self.operations(name, *kinds) if where(name, op)]
        if not among:
            raise Skip
        # first the function, so that a rare one is as likely
        name = self.random.choice(sorted({name for name, _ in among}))
        chosen = self.random.choice([op for at, op in among if at == name])
        return name, chosen

    def producer(self, function: str, value: str) -> Any:
        return next((op for op in self.operations(function) if any(output.name == value for output in op.outputs)), None)

    def value(self, function: str, op: Any, parameter: str) -> np.ndarray[Any, Any] | None:
        """The immediate constant that an operation takes."""
        made = self.producer(function, op.inputs[parameter].arguments[0].name) if parameter in op.inputs else None
        if made is None or made.type != "const" or made.attributes["val"].WhichOneof("value") != "immediateValue":
            return None
        tensor = made.attributes["val"].immediateValue.tensor
        kind = made.attributes["val"].type.tensorType.dataType
        if tensor.WhichOneof("value") == "bytes":
            return np.frombuffer(tensor.bytes.values, _DTYPES[kind])
        return np.array(getattr(tensor, tensor.WhichOneof("value")).values)

    def users(self, function: str, value: str) -> list[Any]:
        return [op for op in self.operations(function) if any(item.name == value for given in op.inputs.values() for item in given.arguments)]

    def carries(self, function: str, *operations: Any) -> None:
        for op in operations:
            if op.outputs:
                self.carriers |= {(function, output.name) for output in op.outputs}
            else:
                self.carriers.add((function, op.inputs["data"].arguments[0].name))

    def constant(self, function: str, before: Any, values: Any, dtype: int, *, scalar: bool = False) -> str:
        """A new constant right before an operation. Returns its name."""
        array = np.asarray(values, _DTYPES.get(dtype, np.bool_)).reshape(-1)
        op = self._insert(function, before, "const", dtype, [] if scalar else [len(array)])
        value = op.attributes["val"]
        value.type.CopyFrom(op.outputs[0].type)
        tensor = value.immediateValue.tensor
        if dtype == FP16:
            tensor.bytes.values = array.tobytes()
        else:
            getattr(tensor, {FP32: "floats", INT32: "ints", BOOL: "bools"}[dtype]).values.extend(array.tolist())
        return str(op.outputs[0].name)

    def text(self, function: str, before: Any, value: str) -> str:
        op = self._insert(function, before, "const", 2, [])
        op.attributes["val"].type.CopyFrom(op.outputs[0].type)
        op.attributes["val"].immediateValue.tensor.strings.values.append(value)
        return str(op.outputs[0].name)

    def insert(self, function: str, before: Any, kind: str, like: Any, **inputs: str) -> str:
        """A new operation right before another, with the type of the value `like`. Returns the name of its result."""
        op = self._insert(function, before, kind, 0, [])
        op.outputs[0].type.CopyFrom(like)
        for name, value in inputs.items():
            op.inputs[name].arguments.add(name=value)
        self.carries(function, op)
        return str(op.outputs[0].name)

    def rewire(self, function: str, op: Any, parameter: str, name: str, at: int = 0) -> None:
        op.inputs[parameter].arguments[at].name = name
        self.carries(function, op)

    def set(self, function: str, op: Any, parameter: str, values: Any, dtype: int) -> None:
        """Give an operation a constant of its own as a parameter."""
        old = self.value(function, op, parameter)
        made = self.producer(function, op.inputs[parameter].arguments[0].name)
        scalar = old is not None and made.attributes["val"].type.tensorType.rank == 0
        self.rewire(function, op, parameter, self.constant(function, op, values, dtype, scalar=scalar))

    def remove(self, function: str, op: Any) -> None:
        self.block(function).operations.remove(op)

    def type_of(self, function: str, name: str) -> Any:
        made = self.producer(function, name)
        if made is not None:
            return next(output.type for output in made.outputs if output.name == name)
        return next(value.type for value in self.model.mlProgram.functions[function].inputs if value.name == name)

    def blobs(self, *dtypes: int, least: int = 2) -> list[tuple[int, int, list[int], list[tuple[str, Any]]]]:
        """(offset, element type, sizes, uses) of every stored blob; uses: (function, the `const` or `constexpr` that holds it)."""
        found: dict[int, tuple[int, int, list[int], list[tuple[str, Any]]]] = {}
        for function in self.functions:
            for op in self.operations(function):
                given = [*op.attributes.values(), *(item.value for value in op.inputs.values() for item in value.arguments)]
                for value in given:
                    if value.WhichOneof("value") != "blobFileValue":
                        continue
                    kind = value.type.tensorType
                    sizes = [dimension.constant.size for dimension in kind.dimensions]
                    if (not dtypes or kind.dataType in dtypes) and int(np.prod(sizes)) >= least:
                        entry = found.setdefault(value.blobFileValue.offset, (value.blobFileValue.offset, kind.dataType, sizes, []))
                        entry[3].append((function, op))
        return [found[offset] for offset in sorted(found)]

    def blob(self, offset: int, dtype: int, sizes: list[int]) -> np.ndarray[Any, Any]:
        """The stored numbers, writable."""
        start = int(self.weights[offset + 16 : offset + 24].view(np.uint64)[0])
        kind = np.dtype({**_DTYPES, 21: np.int8, 31: np.uint8}[dtype])
        return self.weights[start : start + int(np.prod(sizes)) * kind.itemsize].view(kind).reshape(sizes)

    def carries_blob(self, uses: list[tuple[str, Any]]) -> None:
        """Whoever takes the constant, through decompression."""
        for function, op in uses:
            names = [output.name for output in op.outputs]
            while names:
                for user in self.users(function, names.pop()):
                    if user.type.startswith("constexpr_"):
                        names += [output.name for output in user.outputs]
                    else:
                        self.carries(function, user)

    def _insert(self, function: str, before: Any, kind: str, dtype: int, sizes: list[int]) -> Any:
        from coremltools.proto import MIL_pb2

        self.made += 1
        op = MIL_pb2.Operation(type=kind)
        output = op.outputs.add(name=f"planted_{self.made}")
        output.type.tensorType.dataType = dtype
        output.type.tensorType.rank = len(sizes)
        for size in sizes:
            output.type.tensorType.dimensions.add().constant.size = size
        operations = self.block(function).operations
        at = next(index for index, item in enumerate(operations) if item.outputs == before.outputs and item.inputs == before.inputs)
        operations.insert(at, op)
        return operations[at]


class Skip(Exception):
    """This kind of fault has no place in this package."""


Plant = Callable[[Edit], None]
KINDS: dict[str, Plant] = {}


def kind(plant: Plant) -> Plant:
    KINDS[plant.__name__] = plant
    return plant


def plant(package: Path, into: Path, name: str, seed: int) -> set[Place] | None:
    """A copy of a package with one fault of a kind. Returns its carriers, None if the package has no place for it."""
    from coremltools.proto import Model_pb2

    shutil.copytree(package, into)
    model = Model_pb2.Model()
    model.ParseFromString((into / MODEL).read_bytes())
    edit = Edit(model, np.fromfile(into / WEIGHTS, np.uint8), random.Random(f"{name} {seed}"))
    try:
        KINDS[name](edit)
    except Skip:
        return None
    assert edit.carriers, name
    (into / MODEL).write_bytes(model.SerializeToString(deterministic=True))
    edit.weights.tofile(into / WEIGHTS)
    return edit.carriers


def _float_blob(edit: Edit, where: Callable[[list[int]], bool] = lambda sizes: True) -> tuple[np.ndarray[Any, Any], list[tuple[str, Any]]]:
    """A stored fp16 weight (no rope table) and who takes it."""
    among = [item for item in edit.blobs(FP16) if where(item[2]) and not any("rope" in op.outputs[0].name for _, op in item[3])]
    if not among:
        raise Skip
    offset, dtype, sizes, uses = edit.random.choice(among)
    return edit.blob(offset, dtype, sizes), uses


@kind
def exponent_bit(edit: Edit) -> None:
    """One of the upper three exponent bits of one weight."""
    values, uses = _float_blob(edit, lambda sizes: len(sizes) == 2)
    flat = values.reshape(-1).view(np.uint16)
    at = edit.random.randrange(len(flat))
    flat[at] ^= 1 << edit.random.choice((12, 13, 14))
    edit.carries_blob(uses)


@kind
def rope_table_bit(edit: Edit) -> None:
    """The highest exponent bit of one entry of a rope table, at a position that is used."""
    among = [item for item in edit.blobs(FP16) if any("rope" in op.outputs[0].name for _, op in item[3])]
    if not among:
        raise Skip
    offset, dtype, sizes, uses = edit.random.choice(among)
    edit.blob(offset, dtype, sizes).view(np.uint16)[edit.random.randrange(8), edit.random.randrange(sizes[1])] ^= 0x4000
    edit.carries_blob(uses)


@kind
def weights_exchanged(edit: Edit) -> None:
    """Two stored weights of one shape change places."""
    items = [item for item in edit.blobs(FP16) if len(item[2]) == 2]
    pairs = [(one, other) for at, one in enumerate(items) for other in items[at + 1 :] if one[2] == other[2]]
    if not pairs:
        raise Skip
    one, other = edit.random.choice(pairs)
    first, second = edit.blob(*one[:3]), edit.blob(*other[:3])
    first[...], second[...] = second.copy(), first.copy()
    edit.carries_blob([*one[3], *other[3]])


@kind
def weight_transposed(edit: Edit) -> None:
    values, uses = _float_blob(edit, lambda sizes: len(sizes) == 2 and sizes[0] == sizes[1])
    values[...] = values.T.copy()
    edit.carries_blob(uses)


@kind
def rows_zeroed(edit: Edit) -> None:
    """A quarter of a weight's rows."""
    values, uses = _float_blob(edit, lambda sizes: len(sizes) == 2 and sizes[0] >= 4)
    start = edit.random.randrange(len(values) - len(values) // 4)
    values[start : start + len(values) // 4] = 0
    edit.carries_blob(uses)


@kind
def halt_classes_exchanged(edit: Edit) -> None:
    """`[halt, continue]` instead of `[continue, halt]`: the rows of the head's weight."""
    values, uses = _float_blob(edit, lambda sizes: len(sizes) == 2 and sizes[0] == 2)
    values[...] = values[::-1].copy()
    edit.carries_blob(uses)


def _mask(edit: Edit) -> tuple[str, Any]:
    return edit.pick("mul", where=lambda name, op: (value := edit.value(name, op, "y")) is not None and value.size == 1 and float(value[0]) < -5000)


@kind
def mask_dropped(edit: Edit) -> None:
    function, op = _mask(edit)
    edit.set(function, op, "y", [0.0], FP16)


@kind
def mask_weak(edit: Edit) -> None:
    """Hidden positions get a score that is not low enough."""
    function, op = _mask(edit)
    edit.set(function, op, "y", [edit.random.choice((-1.0, -0.25, 1e4))], FP16)


@kind
def mask_inverted(edit: Edit) -> None:
    function, op = edit.pick("greater")
    op.type = "less_equal"
    edit.carries(function, op)


@kind
def mask_off_by_one(edit: Edit) -> None:
    """A position does not see itself."""
    function, op = edit.pick("greater")
    op.type = "greater_equal"
    edit.carries(function, op)


def _is_rope(edit: Edit, function: str, op: Any) -> bool:
    """Whether an add or sub joins two products of halves with rope tables."""
    makers = [edit.producer(function, op.inputs[side].arguments[0].name) for side in ("x", "y")]
    return all(made is not None and made.type == "mul" for made in makers)


@kind
def rope_sign(edit: Edit) -> None:
    function, op = edit.pick("sub", "add", where=lambda name, op: _is_rope(edit, name, op))
    op.type = {"sub": "add", "add": "sub"}[op.type]
    edit.carries(function, op)


def _tables(edit: Edit, function: str) -> list[Any]:
    return [op for op in edit.operations(function, "gather") if "rope" in op.inputs["x"].arguments[0].name]


@kind
def rope_tables_exchanged(edit: Edit) -> None:
    """sin where cos belongs, and the other way round."""
    function = edit.random.choice([name for name in edit.functions if len(_tables(edit, name)) == 2] or [""])
    if not function:
        raise Skip
    one, other = _tables(edit, function)
    names = [op.inputs["x"].arguments[0].name for op in (one, other)]
    edit.rewire(function, one, "x", names[1])
    edit.rewire(function, other, "x", names[0])


@kind
def rope_position_off_by_one(edit: Edit) -> None:
    """The angle of the next position, from one table."""
    function = edit.random.choice([name for name in edit.functions if _tables(edit, name)] or [""])
    if not function:
        raise Skip
    op = edit.random.choice(_tables(edit, function))
    _shifted(edit, function, op, "indices", 1)


def _shifted(edit: Edit, function: str, op: Any, parameter: str, by: int, at: int = 0) -> None:
    """An integer input of an operation, changed by a constant."""
    name = op.inputs[parameter].arguments[at].name
    like = edit.type_of(function, name)
    wide = name
    if like.tensorType.dataType != INT32:
        kind = type(like)()
        kind.CopyFrom(like)
        kind.tensorType.dataType = INT32
        wide, like = edit.insert(function, op, "cast", kind, x=name, dtype=edit.text(function, op, "int32")), kind
    one = edit.constant(function, op, [by], INT32, scalar=True)
    edit.rewire(function, op, parameter, edit.insert(function, op, "add", like, x=wide, y=one), at)


@kind
def token_off_by_one(edit: Edit) -> None:
    """The embedding of the token before."""
    function, op = edit.pick("gather", where=lambda name, op: "embed" in op.inputs["x"].arguments[0].name)
    edit.carries(function, op)
    _shifted(edit, function, op, "indices", -1)


@kind
def mask_position_off_by_one(edit: Edit) -> None:
    """The mask is made for the position before."""
    function, op = edit.pick("expand_dims", where=lambda name, op: op.inputs["x"].arguments[0].name == "position_ids")
    _shifted(edit, function, op, "x", -1)


@kind
def cache_position_off_by_one(edit: Edit) -> None:
    """Keys or values are written one slot later."""
    function, op = edit.pick("slice_update")
    begin, end = (edit.producer(function, op.inputs[name].arguments[0].name) for name in ("begin", "end"))
    edit.carries(function, op)
    _shifted_copy(edit, function, op, "begin", begin)
    _shifted_copy(edit, function, op, "end", end)


def _shifted_copy(edit: Edit, function: str, op: Any, parameter: str, made: Any) -> None:
    like = made.outputs[0].type
    step = edit.constant(function, op, [0, 0, 1, 0], INT32)
    edit.rewire(function, op, parameter, edit.insert(function, op, "add", like, x=made.outputs[0].name, y=step))


@kind
def wrong_layer(edit: Edit) -> None:
    """The cache of another layer is written."""
    function, op = edit.pick("slice_update")
    edit.carries(function, op)
    states = edit.type_of(function, op.inputs["x"].arguments[0].name).tensorType.dimensions[0].constant.size
    by = 1 if _layer(edit, function, op) + 1 < states else -1
    for parameter in ("begin", "end"):
        step = edit.constant(function, op, [by, 0, 0, 0], INT32)
        name = op.inputs[parameter].arguments[0].name
        edit.rewire(function, op, parameter, edit.insert(function, op, "add", edit.type_of(function, name), x=name, y=step))


def _layer(edit: Edit, function: str, op: Any) -> int:
    """Which layer's cache an update writes: each state is updated once per layer, in order."""
    same = [item for item in edit.operations(function, "slice_update") if _state(edit, function, item) == _state(edit, function, op)]
    return same.index(op)


def _state(edit: Edit, function: str, op: Any) -> str:
    writes = [item for item in edit.users(function, op.outputs[0].name) if item.type == "write_state"]
    return str(writes[0].inputs["input"].arguments[0].name) if writes else ""


@kind
def write_dropped(edit: Edit) -> None:
    """A state keeps what it had."""
    function, op = edit.pick("write_state")
    state, data = op.inputs["input"].arguments[0].name, op.inputs["data"].arguments[0].name
    operations = list(edit.operations(function))
    after = operations[operations.index(op) + 1 :]
    edit.carries(function, op)
    edit.carriers.add((function, state))
    reads = [item for item in after if item.type == "read_state" and item.inputs["input"].arguments[0].name == state]
    edit.carries(function, *reads[:1])
    edit.carriers.add((function, data))
    edit.remove(function, op)


@kind
def stale_read(edit: Edit) -> None:
    """What attends reads the state as it was before this call's write."""

    def second(name: str, op: Any) -> bool:
        state = op.inputs["input"].arguments[0].name
        return any(item.inputs["input"].arguments[0].name == state for item in before(name, op))

    def before(name: str, op: Any) -> list[Any]:
        operations = list(edit.operations(name))
        return [item for item in operations[: operations.index(op)] if item.type == "read_state"]

    function, op = edit.pick("read_state", where=second)
    state = op.inputs["input"].arguments[0].name
    old = [item for item in before(function, op) if item.inputs["input"].arguments[0].name == state][-1]
    users = [item for item in edit.users(function, op.outputs[0].name) if item.type == "slice_by_index"]
    if not users:
        raise Skip
    for user in users:
        edit.rewire(function, user, "x", old.outputs[0].name)


@kind
def states_exchanged(edit: Edit) -> None:
    """Keys are kept as values and values as keys, in one layer."""
    function = edit.random.choice([name for name in edit.functions if edit.operations(name, "write_state")] or [""])
    if not function:
        raise Skip
    writes = edit.operations(function, "write_state")
    one = edit.random.choice(writes)
    state = one.inputs["input"].arguments[0].name
    other = next(item for item in writes if item.inputs["input"].arguments[0].name != state)
    one.inputs["input"].arguments[0].name = other.inputs["input"].arguments[0].name
    edit.carries(function, one)
    operations = list(edit.operations(function))
    reads = [item for item in operations[operations.index(one) :] if item.type == "read_state"]
    edit.carries(function, *reads[:2])


def _viewed(edit: Edit, function: str, op: Any) -> None:
    """A transpose becomes a reshape to the same sizes: right for one position, wrong for more."""
    sizes = [dimension.constant.size for dimension in op.outputs[0].type.tensorType.dimensions]
    shape = edit.constant(function, op, sizes, INT32)
    op.type = "reshape"
    del op.inputs["perm"]
    op.inputs["shape"].arguments.add(name=shape)
    edit.carries(function, op)


@kind
def head_layout(edit: Edit) -> None:
    """Heads and positions of a projection, or of what attention returns, are mixed up."""
    function, op = edit.pick("transpose", where=lambda name, op: name != "decode" and op.outputs[0].type.tensorType.rank == 4)
    _viewed(edit, function, op)


@kind
def cache_layout(edit: Edit) -> None:
    """Values are written into the cache by position and head instead of head and position."""

    def written(name: str, op: Any) -> bool:
        return any(user.type == "slice_update" for user in edit.users(name, op.outputs[0].name))

    function, op = edit.pick("transpose", where=lambda name, op: name != "decode" and written(name, op))
    _viewed(edit, function, op)


@kind
def epsilon_wrong(edit: Edit) -> None:
    def small(name: str, op: Any) -> bool:
        value = edit.value(name, op, "y")
        return value is not None and value.size == 1 and 0 < float(value[0]) < 1e-3 and value.dtype.kind == "f"

    function, op = edit.pick("add", where=small)
    edit.set(function, op, "y", [edit.random.choice((0.03, 0.3, 1.0))], FP32)


@kind
def reduce_axis_wrong(edit: Edit) -> None:
    """The mean square is taken over positions instead of channels."""
    function, op = edit.pick("reduce_mean", where=lambda name, op: op.outputs[0].type.tensorType.dimensions[1].constant.size > 1)
    source = edit.type_of(function, op.inputs["x"].arguments[0].name)
    edit.set(function, op, "axes", [1], INT32)
    value = op.outputs[0].name
    while True:
        made = edit.producer(function, value)
        made.outputs[0].type.tensorType.dimensions[1].constant.size = 1
        made.outputs[0].type.tensorType.dimensions[2].constant.size = source.tensorType.dimensions[2].constant.size
        edit.carries(function, made)
        if made.type == "rsqrt":
            return
        value = edit.users(function, value)[0].outputs[0].name


@kind
def softmax_axis_wrong(edit: Edit) -> None:
    function, op = edit.pick("softmax")
    edit.set(function, op, "axis", [-2], INT32)


@kind
def concat_order(edit: Edit) -> None:
    """The two halves of a rotated head are joined the wrong way round."""
    function, op = edit.pick("concat", where=lambda name, op: op.outputs[0].type.tensorType.rank == 4)
    names = [item.name for item in op.inputs["values"].arguments]
    for at, name in enumerate(reversed(names)):
        edit.rewire(function, op, "values", name, at)


@kind
def concat_interleaved(edit: Edit) -> None:
    """The two halves are joined element by element: the other convention of RoPE."""
    function, op = edit.pick("concat", where=lambda name, op: op.outputs[0].type.tensorType.rank == 4)
    edit.set(function, op, "interleave", [True], BOOL)


@kind
def outputs_exchanged(edit: Edit) -> None:
    """Two outputs of one type have each other's name."""
    found = []
    for function in edit.functions:
        names = list(edit.block(function).outputs)
        pairs = [(one, other) for one in names for other in names if one < other]
        found += [(function, *pair) for pair in pairs if edit.type_of(function, pair[0]) == edit.type_of(function, pair[1])]
    if not found:
        raise Skip
    function, one, other = edit.random.choice(found)
    makers = [edit.producer(function, name) for name in (one, other)]
    if edit.users(function, one) or edit.users(function, other):
        raise Skip
    for made, name in zip(makers, (other, one), strict=True):
        made.outputs[0].name = name
    edit.carries(function, *makers)


@kind
def attention_scale(edit: Edit) -> None:
    """Scores are divided by √D twice, or not at all."""

    def side_of(op: Any) -> str:
        return "query" if op.type == "scaled_dot_product_attention" else "x"

    def wide(name: str, op: Any) -> bool:
        # of scores and values the width is the text's length, which may be open
        return bool(edit.type_of(name, op.inputs[side_of(op)].arguments[0].name).tensorType.dimensions[3].constant.size)

    function, op = edit.pick("scaled_dot_product_attention", "matmul", where=wide)
    side = side_of(op)
    name = op.inputs[side].arguments[0].name
    like = edit.type_of(function, name)
    width = like.tensorType.dimensions[3].constant.size
    factor = edit.constant(function, op, [edit.random.choice((width**0.5, width**-0.5))], FP16, scalar=True)
    edit.rewire(function, op, side, edit.insert(function, op, "mul", like, x=name, y=factor))


@kind
def residual_dropped(edit: Edit) -> None:
    """Only the branch is left, or only the stream."""

    def residual(name: str, op: Any) -> bool:
        makers = [edit.producer(name, op.inputs[side].arguments[0].name) for side in ("x", "y")]
        return all(made is not None for made in makers) and makers[1].type == "linear" and makers[0].type != "const"

    function, op = edit.pick("add", where=residual)
    if edit.random.random() < 0.5:
        op.inputs["x"].arguments[0].name = op.inputs["y"].arguments[0].name
    op.type = "identity"
    del op.inputs["y"]
    edit.carries(function, op)


@kind
def activation_replaced(edit: Edit) -> None:
    function, op = edit.pick("silu")
    op.type = edit.random.choice(("sigmoid", "tanh", "relu", "gelu"))
    edit.carries(function, op)


@kind
def heads_repeated_wrongly(edit: Edit) -> None:
    """Grouped queries get the keys or values h0 h1 h0 h1 instead of h0 h0 h1 h1."""
    function, tile = edit.pick("tile")
    expand = edit.producer(function, tile.inputs["x"].arguments[0].name)
    if expand is None or expand.type != "expand_dims":
        raise Skip
    reps = edit.value(function, tile, "reps")
    if reps is None or len(reps) != 5:
        raise Skip
    edit.set(function, expand, "axes", [1], INT32)
    edit.set(function, tile, "reps", [1, int(reps[2]), 1, 1, 1], INT32)
    for op in (expand, tile):
        sizes = op.outputs[0].type.tensorType.dimensions
        heads = sizes[1].constant.size
        sizes[1].constant.size, sizes[2].constant.size = sizes[2].constant.size, heads


@kind
def clip_inserted(edit: Edit) -> None:
    """A value is cut to half of what it needs."""
    function, op = edit.pick("linear", where=lambda name, op: not op.inputs["x"].arguments[0].name.startswith("const"))
    name = op.inputs["x"].arguments[0].name
    bound = edit.random.choice((0.25, 0.5))
    low, high = (edit.constant(function, op, [side * bound], FP16, scalar=True) for side in (-1, 1))
    edit.rewire(function, op, "x", edit.insert(function, op, "clip", edit.type_of(function, name), x=name, alpha=low, beta=high))


@kind
def integer_cast_inserted(edit: Edit) -> None:
    """A value loses its fraction on the way."""
    function, op = edit.pick("linear")
    name = op.inputs["x"].arguments[0].name
    like = edit.type_of(function, name)
    whole = type(like)()
    whole.CopyFrom(like)
    whole.tensorType.dataType = INT32
    narrow = edit.insert(function, op, "cast", whole, x=name, dtype=edit.text(function, op, "int32"))
    edit.rewire(function, op, "x", edit.insert(function, op, "cast", like, x=narrow, dtype=edit.text(function, op, "fp16")))


@kind
def last_index_off_by_one(edit: Edit) -> None:
    """The heads read the position before the last real one."""

    def reads(name: str, op: Any) -> bool:
        return any("last_index" in item.name for item in op.inputs["indices"].arguments)

    function, op = edit.pick("gather", where=reads)
    _shifted(edit, function, op, "indices", -1)


@kind
def input_exchanged(edit: Edit) -> None:
    """A projection takes what its neighbour takes: gate and value of the MLP from before the norm, or a residual from another place."""
    function, op = edit.pick("linear")
    like = edit.type_of(function, op.inputs["x"].arguments[0].name)
    operations = list(edit.operations(function))
    own = op.inputs["x"].arguments[0].name
    others = [
        output.name for item in operations[: operations.index(op)] for output in item.outputs
        if item.type != "const" and output.type == like and output.name != own and item.type in ("add", "cast", "mul")
    ]  # fmt: skip
    if not others:
        raise Skip
    edit.rewire(function, op, "x", edit.random.choice(others))


@kind
def one_shape_broken(edit: Edit) -> None:
    """The longest prefill alone: its last norm is left out of one projection's scale."""
    function = [name for name in edit.functions if name.startswith("prefill")][-1:]
    if not function or len(edit.functions) < 3:
        raise Skip
    name, op = edit.pick("linear", function=function[0])
    value = op.inputs["x"].arguments[0].name
    factor = edit.constant(name, op, [edit.random.choice((0.5, 2.0, -1.0))], FP16, scalar=True)
    edit.rewire(name, op, "x", edit.insert(name, op, "mul", edit.type_of(name, value), x=value, y=factor))


def _compressed(edit: Edit, *kinds: str) -> Iterator[tuple[str, Any]]:
    for function in edit.functions:
        for op in edit.operations(function, *kinds):
            yield function, op


def _compressed_part(edit: Edit, part: str, *kinds: str) -> tuple[int, int, list[int], list[tuple[str, Any]]]:
    """A stored part of a decompression, and every decompression that takes it."""
    found: dict[int, tuple[int, int, list[int], list[tuple[str, Any]]]] = {}
    for function, op in _compressed(edit, *kinds):
        given = op.inputs[part].arguments[0] if part in op.inputs else None
        made = edit.producer(function, given.name) if given is not None and given.name else None
        value = made.attributes["val"] if made is not None else given.value if given is not None else op.attributes[part]
        if value.WhichOneof("value") == "blobFileValue":
            kind = value.type.tensorType
            sizes = [dimension.constant.size for dimension in kind.dimensions]
            found.setdefault(value.blobFileValue.offset, (value.blobFileValue.offset, kind.dataType, sizes, []))[3].append((function, op))
    if not found:
        raise Skip
    return found[edit.random.choice(sorted(found))]


@kind
def scale_wrong(edit: Edit) -> None:
    """The scale of one row or block of a quantised weight."""
    offset, dtype, sizes, uses = _compressed_part(edit, "scale", "constexpr_blockwise_shift_scale")
    values = edit.blob(offset, dtype, sizes).reshape(-1)
    start = edit.random.randrange(max(1, len(values) // 2))
    values[start : start + max(1, len(values) // 2)] *= edit.random.choice((2.0, -1.0, 0.5))
    edit.carries_blob(uses)


@kind
def offset_wrong(edit: Edit) -> None:
    """The stored integers of a quantised weight are shifted."""
    offset, dtype, sizes, uses = _compressed_part(edit, "data", "constexpr_blockwise_shift_scale")
    if dtype != 21:
        raise Skip
    values = edit.blob(offset, dtype, sizes)
    values[...] = np.clip(values.astype(int) + edit.random.choice((-12, 12)), -128, 127).astype(np.int8)
    edit.carries_blob(uses)


@kind
def lut_wrong(edit: Edit) -> None:
    """A table of a palettised weight stands in the reverse order, or is another's."""
    offset, dtype, sizes, uses = _compressed_part(edit, "lut", "constexpr_lut_to_dense")
    values = edit.blob(offset, dtype, sizes).reshape(-1)
    values[...] = values[::-1].copy() if edit.random.random() < 0.5 else np.roll(values, 1)
    edit.carries_blob(uses)
