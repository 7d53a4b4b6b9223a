"""A pickle virtual machine that cannot execute anything: it has no import, no call and no attribute access.

Here: opcodes to plain values and inert records, under limits. Not here: which keys a checkpoint needs, whether a tensor lies inside its
storage (torchfile.py). An allow-list throughout: an opcode or a global that is not named here ends the reading. `pickle.Unpickler` is not
used, not even restricted (CVE-2025-32434, CVE-2026-24747 were holes in such restrictions).
Format: CPython Lib/pickletools.py; torch writes protocol 2.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from interlock.errors import ContractError, refuse
from pipeline.sources.proofs import shown

MAX_BYTES = 16 << 20  # of data.pkl: no tensor data is in it; a 135M checkpoint has 50 KB
MAX_OPCODES = 1 << 19  # a 135M checkpoint with its optimizer takes 30,000
MAX_MEMO = 1 << 18
MAX_DEPTH = 64
MAX_DIMS = 8  # of a tensor
MAX_TEXT = 1 << 20  # of one string
MAX_LONG = 64  # bytes of one integer
REMEDY = "save only tensors, numbers, strings, lists and dicts: `torch.save({'model_state_dict': ..., 'config': ...}, path)`; nothing was executed"

# Storage class -> element type, and bytes per element.
STORAGES = {
    "FloatStorage": ("float32", 4),
    "HalfStorage": ("float16", 2),
    "BFloat16Storage": ("bfloat16", 2),
    "DoubleStorage": ("float64", 8),
    "LongStorage": ("int64", 8),
    "IntStorage": ("int32", 4),
    "ShortStorage": ("int16", 2),
    "CharStorage": ("int8", 1),
    "ByteStorage": ("uint8", 1),
    "BoolStorage": ("bool", 1),
}
ORDERED_DICT = "collections.OrderedDict"
REBUILD_TENSOR = "torch._utils._rebuild_tensor_v2"
# The state of numpy's generator (`meta.rng_states.numpy` in the guide's checkpoints) and byte strings under protocol 2. Both are kept as an
# inert `Opaque`, never built.
OPAQUE = {"numpy._core.multiarray._reconstruct", "numpy.core.multiarray._reconstruct", "numpy.ndarray", "numpy.dtype", "_codecs.encode"}
GLOBALS = {ORDERED_DICT, REBUILD_TENSOR, *OPAQUE, *(f"torch.{name}" for name in STORAGES)}


@dataclass(frozen=True)
class Global:
    """The name of a class or function that torch writes. It stands for nothing that could be called."""

    name: str


@dataclass(frozen=True)
class Opaque:
    """A value that is not needed and was not built."""

    name: str


@dataclass(frozen=True)
class Storage:
    """A record of numbers in the archive, member `data/<key>`: `numel` elements of `dtype`, `width` bytes each."""

    key: str
    dtype: str
    width: int
    numel: int


@dataclass(frozen=True)
class TensorRecord:
    """A view of a storage: `offset` and `strides` in elements. Nothing about it is proven yet but its types."""

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


class _Mark:
    pass


_MARK = _Mark()
Value = object


def read_pickle(data: bytes, path: Path) -> Value:
    """The value in `data`, of at most MAX_BYTES (the caller sees to that).

    It is made of None, bool, int, float, str, bytes, tuple, list, dict (also for OrderedDict), TensorRecord and Opaque.

    Dict keys are str or int. No value contains itself. Raises ContractError at the first opcode or global that is not allowed.
    """
    return _Machine(data, path).run()


class _Machine:
    def __init__(self, data: bytes, path: Path) -> None:
        self.data, self.path, self.at = data, path, 0
        self.stack: list[Value] = []
        self.memo: dict[int, Value] = {}
        self.marks = 0
        # Depth of each list, tuple and dict by identity, and whether another one holds it. `kept` keeps identities from being used again.
        self.depth: dict[int, int] = {}
        self.held: set[int] = set()
        self.kept: list[Value] = []
        self.arguments: set[int] = set()  # tuples with names of code in them: for REDUCE and persistent ids only

    def run(self) -> Value:
        for _ in range(MAX_OPCODES):
            code = self.take(1)
            if code == b".":
                return self.finish()
            handler = _HANDLERS.get(code)
            if handler is None:
                raise self.bad("an opcode of plain data", f"opcode {shown(code)}")
            handler(self)
        raise self.bad(f"at most {MAX_OPCODES} opcodes", "more")

    def finish(self) -> Value:
        value = self.pop()
        if self.stack or self.at != len(self.data):
            raise self.bad("one value and nothing after it", f"{len(self.data) - self.at} more bytes, {len(self.stack)} values left")
        if isinstance(value, Global) or id(value) in self.arguments:
            raise self.bad("a value", "a name of code")
        return value

    def bad(self, expected: str, found: str) -> ContractError:
        return refuse(self.path, f"data.pkl, before byte {self.at}", expected=expected, found=found, remedy=REMEDY)

    # Reading

    def take(self, count: int) -> bytes:
        if count > len(self.data) - self.at:
            raise self.bad(f"{count} more bytes", f"{len(self.data) - self.at} left")
        self.at += count
        return self.data[self.at - count : self.at]

    def number(self, layout: str) -> int:
        value: int = struct.unpack("<" + layout, self.take(struct.calcsize("<" + layout)))[0]
        return value

    def text(self, length: int) -> str:
        if length > MAX_TEXT:
            raise self.bad(f"strings of at most {MAX_TEXT} bytes", f"{length}")
        raw = self.take(length)
        try:
            return raw.decode("utf-8")
        except UnicodeDecodeError:
            raise self.bad("UTF-8", shown(raw)) from None

    def line(self) -> str:
        stop = self.data.find(b"\n", self.at, self.at + 256)
        if stop < 0:
            raise self.bad("a name of at most 255 bytes, ended by a newline", "none")
        raw = self.take(stop + 1 - self.at)[:-1]
        return raw.decode("latin-1")

    # The stack

    def pop(self) -> Value:
        if not self.stack or isinstance(self.stack[-1], _Mark):
            raise self.bad("a value on the stack", "none")
        return self.stack.pop()

    def pops(self, count: int) -> list[Value]:
        return [self.pop() for _ in range(count)][::-1]

    def since_mark(self) -> list[Value]:
        for i in range(len(self.stack) - 1, -1, -1):
            if isinstance(self.stack[i], _Mark):
                items = self.stack[i + 1 :]
                del self.stack[i:]
                self.marks -= 1
                return items
        raise self.bad("a mark on the stack", "none")

    def push(self, value: Value) -> None:
        self.stack.append(value)

    def mark(self) -> None:
        self.marks += 1
        if self.marks > MAX_DEPTH:
            raise self.bad(f"nesting of at most {MAX_DEPTH}", "deeper")
        self.stack.append(_MARK)

    # Containers

    def new(self, value: Value) -> None:
        self.kept.append(value)
        self.depth[id(value)] = 1
        self.push(value)

    def hold(self, parent: Value, items: list[Value]) -> None:
        """Note that `parent` gets `items`. What is held can grow no more, so nothing can come to contain itself and depths are final."""
        if id(parent) in self.held:
            raise self.bad("a container that is complete before another one holds it", "one that grows later")
        for item in items:
            if isinstance(item, Global) or id(item) in self.arguments:
                raise self.bad("a value", "a name of code")
            if id(item) in self.depth:
                self.held.add(id(item))
                self.depth[id(parent)] = max(self.depth[id(parent)], 1 + self.depth[id(item)])
        if id(parent) in self.held or self.depth[id(parent)] > MAX_DEPTH:
            raise self.bad(f"nesting of at most {MAX_DEPTH}, nothing inside itself", "deeper")

    def tuple_of(self, items: list[Value]) -> None:
        if not items:
            self.push(())
            return
        value = tuple(items)
        self.new(value)
        values = [item for item in items if not isinstance(item, Global)]
        self.hold(value, values)
        if len(values) < len(items):
            self.arguments.add(id(value))

    def set_items(self, items: list[Value]) -> None:
        target = self.stack[-1] if self.stack else None
        if not isinstance(target, dict) or len(items) % 2:
            raise self.bad("pairs for a dict", f"{len(items)} values for {shown(target)}")
        self.hold(target, items[1::2])
        for key, value in zip(items[::2], items[1::2], strict=True):
            if type(key) not in (str, int):
                raise self.bad("keys of strings or integers", f"a key of type {type(key).__name__}")
            if key in target:
                raise self.bad("each key once", f"{shown(key)} twice")
            target[key] = value

    def append(self, items: list[Value]) -> None:
        target = self.stack[-1] if self.stack else None
        if not isinstance(target, list):
            raise self.bad("a list to append to", shown(target))
        self.hold(target, items)
        target.extend(items)

    # The memo

    def put(self, index: int) -> None:
        # A pickler writes each place once; writing it twice is how a payload shows a scanner one name and the loader another.
        if index in self.memo or len(self.memo) >= MAX_MEMO:
            raise self.bad(f"each of at most {MAX_MEMO} memo places written once", f"place {index} again, or one more")
        value = self.pop()
        self.memo[index] = value
        self.push(value)

    def get(self, index: int) -> None:
        if index not in self.memo:
            raise self.bad("a memo place that was written", f"place {index}")
        self.push(self.memo[index])

    # Names, and what is made of them

    def name(self, module: Value, name: Value) -> None:
        full = f"{module}.{name}" if isinstance(module, str) and isinstance(name, str) and len(module) + len(name) < 512 else "no text"
        if full not in GLOBALS:
            raise self.bad("only names of code that a plain `torch.save` writes (" + ", ".join(sorted(GLOBALS)) + ")", shown(full))
        self.push(Global(full))

    def stack_global(self) -> None:
        name, module = self.pop(), self.pop()
        self.name(module, name)

    def reduce(self) -> None:
        arguments, function = self.pop(), self.pop()
        if not isinstance(function, Global) or not isinstance(arguments, tuple):
            raise self.bad("a name and its arguments", f"{shown(function)} and {shown(arguments)}")
        if function.name == ORDERED_DICT and arguments == ():
            self.new({})
        elif function.name == REBUILD_TENSOR:
            self.push(self.tensor(arguments))
        elif function.name in OPAQUE:
            self.push(Opaque(function.name))
        else:
            raise self.bad("a tensor or an empty OrderedDict", f"`{function.name}` with {len(arguments)} arguments")

    def build(self) -> None:
        """The state of an OrderedDict (torch's `_metadata`) or of an opaque value: checked to be data by its opcodes, then dropped."""
        state = self.pop()
        target = self.stack[-1] if self.stack else None
        if not (isinstance(target, dict) and isinstance(state, dict)) and not (isinstance(target, Opaque) and isinstance(state, tuple)):
            raise self.bad("state for an OrderedDict", f"{shown(state)} for {shown(target)}")

    def tensor(self, arguments: tuple[Value, ...]) -> TensorRecord:
        if not 6 <= len(arguments) <= 7 or (len(arguments) == 7 and arguments[6] not in (None, {})):
            raise self.bad("6 arguments of a plain tensor", f"{len(arguments)}, or metadata that changes the numbers")
        storage, offset, shape, strides, _, hooks = arguments[:6]
        if not isinstance(storage, Storage) or not isinstance(shape, tuple) or not isinstance(strides, tuple) or hooks != {}:
            raise self.bad("a storage, an offset, a shape, strides of the same length, no hooks", "other arguments")
        if (
            len(shape) != len(strides)
            or len(shape) > MAX_DIMS
            or any(type(item) is not int or not 0 <= item < 1 << 48 for item in (offset, *shape, *strides))
        ):
            raise self.bad("an offset, a shape and strides of integers of 0 or more", "other values")
        return TensorRecord(storage, cast("int", offset), shape, strides)

    def persistent(self) -> None:
        pid = self.pop()
        if not isinstance(pid, tuple) or len(pid) != 5 or pid[0] != "storage":
            raise self.bad("a storage", shown(pid))
        _, kind, key, location, numel = pid
        storage = STORAGES.get(kind.name.removeprefix("torch.")) if isinstance(kind, Global) else None
        if storage is None or not isinstance(key, str) or not isinstance(location, str) or type(numel) is not int or not 0 <= numel < 1 << 48:
            raise self.bad("a storage class, key, location and element count", "other values")
        self.push(Storage(key, *storage, numel))


def _integer(machine: _Machine, size: int) -> None:
    if size > MAX_LONG:
        raise machine.bad(f"integers of at most {MAX_LONG} bytes", f"{size}")
    machine.push(int.from_bytes(machine.take(size), "little", signed=True))


def _bytes(machine: _Machine, size: int) -> None:
    if size > MAX_TEXT:
        raise machine.bad(f"at most {MAX_TEXT} bytes", f"{size}")
    machine.push(machine.take(size))


def _protocol(machine: _Machine) -> None:
    if machine.at != 1 or machine.number("B") not in (2, 3, 4, 5):
        raise machine.bad("protocol 2 to 5, once, at the start", "another")


def _frame(machine: _Machine) -> None:
    if machine.number("Q") > len(machine.data) - machine.at:
        raise machine.bad("a frame inside the data", "a longer one")


# Opcodes by value; Lib/pickletools.py has their names and effects.
_HANDLERS: dict[bytes, Callable[[_Machine], None]] = {
    b"\x80": _protocol,
    b"\x95": _frame,
    b"N": lambda m: m.push(None),
    b"\x88": lambda m: m.push(True),
    b"\x89": lambda m: m.push(False),
    b"J": lambda m: m.push(m.number("i")),
    b"K": lambda m: m.push(m.number("B")),
    b"M": lambda m: m.push(m.number("H")),
    b"\x8a": lambda m: _integer(m, m.number("B")),
    b"G": lambda m: m.push(struct.unpack(">d", m.take(8))[0]),
    b"X": lambda m: m.push(m.text(m.number("I"))),
    b"\x8c": lambda m: m.push(m.text(m.number("B"))),
    b"B": lambda m: _bytes(m, m.number("I")),
    b"C": lambda m: _bytes(m, m.number("B")),
    b")": lambda m: m.push(()),
    b"]": lambda m: m.new([]),
    b"}": lambda m: m.new({}),
    b"(": lambda m: m.mark(),
    b"t": lambda m: m.tuple_of(m.since_mark()),
    b"\x85": lambda m: m.tuple_of(m.pops(1)),
    b"\x86": lambda m: m.tuple_of(m.pops(2)),
    b"\x87": lambda m: m.tuple_of(m.pops(3)),
    b"a": lambda m: m.append(m.pops(1)),
    b"e": lambda m: m.append(m.since_mark()),
    b"s": lambda m: m.set_items(m.pops(2)),
    b"u": lambda m: m.set_items(m.since_mark()),
    b"q": lambda m: m.put(m.number("B")),
    b"r": lambda m: m.put(m.number("I")),
    b"\x94": lambda m: m.put(len(m.memo)),
    b"h": lambda m: m.get(m.number("B")),
    b"j": lambda m: m.get(m.number("I")),
    b"c": lambda m: m.name(m.line(), m.line()),
    b"\x93": lambda m: m.stack_global(),
    b"Q": lambda m: m.persistent(),
    b"R": lambda m: m.reduce(),
    b"b": lambda m: m.build(),
}
