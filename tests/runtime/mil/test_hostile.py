"""Programs that ask for too much, and packages with changed bytes: one refusal, in little time and memory."""

from __future__ import annotations

import random
import resource
import shutil
import struct
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fakes.programs import constant, operation, program, tensor

from interlock.errors import ContractError, InterlockError
from runtime.mil import Program, Runner, budget, open_package, wire
from runtime.mil.program import Block, ListType, NamedType, Operation
from runtime.mil.reader import MODEL
from runtime.mil.schema import SCHEMA
from runtime.mil.validate import violations
from runtime.mil.wire import WireError, decode

UNKNOWN = tensor("fp32", None, None)
HUGE = 1 << 20


@pytest.fixture(autouse=True)
def _bounded() -> Iterator[None]:
    """Nothing here may take two gigabytes more, which the system holds it to, or half a minute."""
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + (2 << 30), hard))
    started = time.process_time()
    yield
    resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
    assert time.process_time() - started < 30


def one(kind: str, *, out: Any = UNKNOWN, **parameters: Any) -> Program:
    return program([operation(kind, {"y": out}, **parameters)], {}, ("y",))


X = constant(np.ones((2, 2), np.float32))
COLUMN, ROW = (constant(np.ones(shape, np.float32)) for shape in ((HUGE, 1), (1, HUGE)))
IMAGE = constant(np.ones((1, 1, 2, 2), np.float32))
BIG = constant(np.array([HUGE, HUGE], np.int32))
BOMBS = {
    "declared": one("identity", out=tensor("fp32", HUGE, HUGE), x=X),
    "fill": one("fill", shape=BIG, value=constant(1.0)),
    "tile": one("tile", x=X, reps=BIG),
    "range_1d": one("range_1d", out=tensor("int32", None), start=constant(0), end=constant((1 << 31) - 1), step=constant(1)),
    "range that never ends": one("range_1d", out=tensor("int32", None), start=constant(0), end=constant(1), step=constant(0)),
    "broadcast": one("add", x=COLUMN, y=ROW),
    "product": one("matmul", x=COLUMN, y=ROW),
    "one_hot": one("one_hot", indices=constant(np.zeros(HUGE, np.int32)), one_hot_vector_size=constant(HUGE)),
    "pad": one("pad", x=X, pad=constant(np.array([0, HUGE, 0, HUGE], np.int32))),
    "concat": program(
        [operation("identity", {"x": UNKNOWN}, x=COLUMN), operation("concat", {"y": UNKNOWN}, values=("x",) * 4096, axis=constant(0))], {}, ("y",)
    ),
    "random": one("random_normal", shape=BIG),
    "resize": one(
        "resize_bilinear", out=tensor("fp32", 1, 1, None, None), x=IMAGE, target_size_height=constant(HUGE), target_size_width=constant(HUGE)
    ),
    "upsample": one(
        "upsample_nearest_neighbor",
        out=tensor("fp32", 1, 1, None, None),
        x=IMAGE,
        scale_factor_height=constant(HUGE),
        scale_factor_width=constant(HUGE),
    ),
    "resize of any axes": one("resize", x=X, shape=BIG, resized_dims=constant(2)),
    "list": program(
        [
            operation("make_list", {"l": ListType(tensor("fp32", 1 << 12), None)}, elem_shape=(constant(1 << 12),)),
            operation(
                "list_write",
                {"m": ListType(tensor("fp32", 1 << 12), None)},
                ls="l",
                index=constant(1 << 30),
                value=constant(np.ones(1 << 12, np.float32)),
            ),
            operation("list_length", {"y": tensor("int32")}, ls="m"),
        ],
        {},
        ("y",),
    ),
}


@pytest.mark.parametrize("name", list(BOMBS))
def test_what_would_not_fit_is_refused_before_it_is_made(name: str) -> None:
    with pytest.raises(ContractError) as refused:
        Runner(BOMBS[name]).run("main", {})
    assert any(word in str(refused.value.lines()) for word in ("fit", "steps of zero")), refused.value.lines()


def test_values_are_counted_together(monkeypatch: pytest.MonkeyPatch) -> None:
    """None is too large, all are; views and values that are freed do not count."""
    monkeypatch.setattr(budget, "limit_bytes", lambda: 64 << 20)
    names = [f"v{at}" for at in range(40)]
    size = constant(np.array([1 << 19, 1], np.int32))
    steps = [operation("fill", {name: UNKNOWN}, shape=size, value=constant(float(at))) for at, name in enumerate(names)]
    kept = operation("concat", {"y": UNKNOWN}, values=tuple(names), axis=constant(1))
    with pytest.raises(ContractError, match="together"):
        Runner(program([*steps, kept], {}, ("y",))).run("main", {})
    sums = [operation("add", {f"s{at}": UNKNOWN}, x=f"s{at - 1}" if at else "v0", y=names[at]) for at in range(40)]
    ordered = [step for pair in zip(steps, sums, strict=True) for step in pair]
    assert Runner(program(ordered, {}, ("s39",))).run("main", {})["s39"][0, 0] == sum(range(40))


def loop(body: list[Operation], result: str) -> Program:
    going = Block((NamedType("c", tensor("int32")),), ("go",), (operation("greater_equal", {"go": tensor("bool")}, x="c", y=constant(0)),))
    step = Block((NamedType("b", tensor("int32")),), (result,), tuple(body))
    made = replace(operation("while_loop", {"y": tensor("int32")}, loop_vars=(constant(0),)), blocks=(going, step))
    return program([made], {}, ("y",))


def test_a_loop_that_never_ends_is_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(budget, "MAX_STEPS", 50_000)
    with pytest.raises(ContractError, match="more than 50000 operations"):
        Runner(loop([operation("mul", {"n": tensor("int32")}, x="b", y=constant(1))], "n")).run("main", {})


def test_many_blocks_and_many_names_take_linear_time() -> None:
    empty = Block((), ("x",), ())
    steps = [operation("abs", {f"v{at}": tensor("fp32", 1)}, x="x") for at in range(10_000)]
    steps += [replace(operation("cond", {f"c{at}": tensor("fp32", 1)}, pred="x"), blocks=(empty, empty)) for at in range(10_000)]
    assert violations(program(steps, {"x": tensor("fp32", 1)}, ("x",))) == []


def field(number: int, content: bytes) -> bytes:
    size, length = b"", len(content)
    while length > 127:
        size, length = size + bytes([length & 127 | 128]), length >> 7
    tag = number << 3 | 2
    return (bytes([tag]) if tag < 128 else bytes([tag & 127 | 128, tag >> 7])) + size + bytes([length]) + content


def wrapped(block: bytes) -> bytes:
    """A model whose function `main` has this block."""
    function = field(2, b"CoreML8") + field(3, field(1, b"CoreML8") + field(2, block))
    return field(502, field(2, field(1, b"main") + field(2, function)))


def nested(depth: int) -> bytes:
    block = b""
    for _ in range(depth):
        block = field(3, field(4, block))
    return block


@pytest.mark.parametrize(
    "content",
    [
        wrapped(field(3, b"") * 100_001),
        wrapped(field(2, b"") * 100_001),
        wrapped(nested(200)),
        b"\x08" + b"\xff" * 100,
        wrapped(b"\x1a\xff\xff\xff\xff\x7f"),
    ],
    ids=["operations", "outputs", "depth", "a number without an end", "a length beyond the file"],
)
def test_parsing_has_a_limit(content: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of what it counts: at the real limit the first two take ten seconds and less than a gigabyte."""
    monkeypatch.setattr(wire, "MAX_PARTS", 100_000)
    with pytest.raises(WireError):
        decode(SCHEMA, "Model", content)


def mutated(content: bytes, rng: random.Random) -> bytes:
    """One of the usual mistakes and attacks at a random place."""
    at, data = rng.randrange(len(content)), bytearray(content)
    kind = rng.randrange(6)
    if kind == 0:
        data[at] ^= 1 << rng.randrange(8)
    elif kind == 1:
        data[at] = rng.choice([0, 1, 0x7F, 0x80, 0xFF])
    elif kind == 2:
        del data[at : at + rng.randrange(1, 16)]
    elif kind == 3:
        data[at:at] = data[at : at + rng.randrange(1, 64)]
    elif kind == 4:
        data[at : at + 8] = struct.pack("<Q", rng.choice([0, 1, 63, 64, 1 << 20, 1 << 40, (1 << 64) - 1, 1 << 63]))
    else:
        data[at : at + 9] = b"\xff" * 8 + b"\x01"
    return bytes(data)


def sources() -> dict[str, tuple[Path, dict[str, Any]]]:
    """Saved packages of three kinds, small, with inputs."""
    import coremltools as ct
    from coremltools.converters.mil.mil import Builder as mb
    from coremltools.converters.mil.mil import types
    from fakes.programs import save
    from fakes.torch_models import case, described, traced

    @mb.program(input_specs=[mb.TensorSpec(shape=(1,), dtype=types.int32)])  # type: ignore[untyped-decorator]
    def looped(times: Any) -> Any:
        def step(at: Any, made: Any) -> Any:
            return mb.add(x=at, y=1), mb.list_write(ls=made, index=mb.squeeze(x=at), value=mb.cast(x=at, dtype="fp32"))

        made = mb.make_list(init_length=1, elem_shape=(1,))
        made = mb.while_loop(_cond=lambda at, made: mb.squeeze(x=mb.less(x=at, y=times)), _body=step, loop_vars=(np.array([0], np.int32), made))[1]
        return mb.list_gather(ls=made, indices=mb.range_1d(start=0, end=mb.list_length(ls=made), step=1))

    found = {"loop": (save(looped, compute_precision=ct.precision.FLOAT32), {"times": np.array([3], np.int32)})}
    for name in ("detection", "encoder"):
        module, given = case(name)
        shape = [ct.TensorType(name=key, shape=(1, ct.RangeDim(4, 12, default=9)), dtype=np.int32) for key in given] if name == "encoder" else None
        package = save(traced(module, given), inputs=shape or described(given))
        found[name] = (package, {key: value.numpy() for key, value in given.items()})
    return found


@pytest.mark.export
@pytest.mark.filterwarnings("ignore")
@pytest.mark.train  # once: the reader is the same in every environment
def test_two_thousand_changed_packages_run_or_are_refused(tmp_path: Path) -> None:
    """Of the program and of the records of the weight file; what still opens is run."""
    rng, counts = random.Random(0), {"refused when opened": 0, "refused when run": 0, "run": 0}
    blobs = "Data/com.apple.CoreML/weights/weight.bin"
    for name, (package, given) in sources().items():
        copy = Path(shutil.copytree(package, tmp_path / f"{name}.mlpackage"))
        files = [MODEL] * 3 + [Path(blobs)] * (package / blobs).is_file()
        for at in range(700):
            file = files[at % len(files)]
            content = (package / file).read_bytes()
            # of the weights the first kilobyte: headers and records
            (copy / file).write_bytes(mutated(content[:1024], rng) + content[1024:] if file != MODEL else mutated(content, rng))
            counts[outcome(copy, given)] += 1
            (copy / file).write_bytes(content)
    assert sum(counts.values()) == 2100
    assert min(counts.values()) > 20, counts


def outcome(package: Path, given: dict[str, Any]) -> str:
    """Raises anything but an error of ours."""
    try:
        opened = open_package(package)
    except InterlockError:
        return "refused when opened"
    try:
        runner = Runner(opened, "fp16")
        runner.run(opened.default_function, given, runner.new_state(opened.default_function))
    except InterlockError:
        return "refused when run"
    return "run"
