"""No pickle executes anything: each known trick is refused, under every protocol, and the canary file is never written."""

from __future__ import annotations

import builtins
import collections
import contextlib
import functools
import importlib
import math
import operator
import os
import pickle
import pickletools
import struct
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from interlock.errors import ContractError
from pipeline.sources.pickle_machine import read_pickle

CANARY = Path(tempfile.gettempdir()) / f"canary-of-the-pickle-tests-{os.getpid()}"
HERE = Path("x.pt")
TOUCH = f"open({str(CANARY)!r}, 'w')"


class Gadget:
    """Pickles as a call of `function`: what `pickle.loads` would execute."""

    def __init__(self, function: Callable[..., Any], *arguments: Any, state: Any = None) -> None:
        self.call, self.state = (function, arguments), state

    def __reduce__(self) -> Any:
        return (*self.call, self.state) if self.state is not None else self.call


GADGETS = {
    "os.system": Gadget(os.system, f"touch {CANARY}"),
    "eval": Gadget(eval, TOUCH),
    "exec": Gadget(exec, TOUCH),
    "open": Gadget(open, str(CANARY), "w"),
    "subprocess": Gadget(subprocess.call, ["touch", str(CANARY)]),
    "functools.partial": Gadget(functools.partial, os.system, f"touch {CANARY}"),
    "operator.attrgetter": Gadget(operator.attrgetter, "system"),
    "importlib": Gadget(importlib.import_module, "antigravity"),
    "getattr": Gadget(getattr, Gadget(importlib.import_module, "os"), "system"),
    "nested pickle": Gadget(pickle.loads, pickle.dumps(Gadget(eval, TOUCH))),
    "compile": Gadget(compile, TOUCH, "x", "exec"),
    "os.unlink": Gadget(os.unlink, "somewhere"),
    "Path.write_text": Gadget(Path.write_text, CANARY, "x"),
    "BUILD with setattr": Gadget(collections.OrderedDict, state={"__class__": int}),
    "OrderedDict of pairs": Gadget(collections.OrderedDict, [("a", 1)]),
    "set": {1, 2},
    "frozenset": frozenset({1}),
    "complex": 1j,
    "a class": dict,
    "a function": len,
    "a path": Path("x"),
    "a range": range(3),
    "bytearray": bytearray(b"x"),
    "defaultdict": collections.defaultdict(list),
    "an exception": ValueError("x"),
    "tuple as key": {(1, 2): 3},
    "float as key": {1.5: 3},
}


@pytest.fixture(autouse=True)
def canary() -> Any:
    CANARY.unlink(missing_ok=True)
    yield
    assert not CANARY.exists()


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("name", GADGETS)
def test_refuses_everything_that_is_not_plain_data(name: str, protocol: int) -> None:
    data = pickle.dumps({"model_state_dict": GADGETS[name]}, protocol)
    with pytest.raises(ContractError) as caught:
        read_pickle(data, HERE)
    assert caught.value.exit_code == 3


def glob(module: str, name: str) -> bytes:
    return b"c" + module.encode() + b"\n" + name.encode() + b"\n"


def word(text: str) -> bytes:
    return b"X" + struct.pack("<I", len(text)) + text.encode()


P2 = b"\x80\x02"
CALL = b"(" + word(f"touch {CANARY}") + b"tR"
BY_HAND = {
    "GLOBAL os.system": P2 + glob("os", "system") + CALL + b".",
    "posix.system": P2 + glob("posix", "system") + CALL + b".",
    "pip": P2 + glob("pip._internal", "main") + b"(tR.",
    "pkgutil.resolve_name": P2 + glob("pkgutil", "resolve_name") + b"(" + word("os:system") + b"tR.",
    "marshal": P2 + glob("marshal", "loads") + b"(" + word("x") + b"tR.",
    "torch.load": P2 + glob("torch", "load") + b"(" + word("x") + b"tR.",
    "torch.hub.load": P2 + glob("torch.hub", "load") + b"(" + word("x") + b"tR.",
    "torch.storage._load_from_bytes": P2 + glob("torch.storage", "_load_from_bytes") + b"(" + word("x") + b"tR.",
    "_rebuild_tensor": P2 + glob("torch._utils", "_rebuild_tensor") + b"(tR.",
    "_rebuild_qtensor": P2 + glob("torch._utils", "_rebuild_qtensor") + b"(tR.",
    "_rebuild_sparse_tensor": P2 + glob("torch._utils", "_rebuild_sparse_tensor") + b"(tR.",
    "_rebuild_parameter": P2 + glob("torch._utils", "_rebuild_parameter") + b"(tR.",
    "_rebuild_from_type_v2": P2 + glob("torch._tensor", "_rebuild_from_type_v2") + b"(tR.",
    "QInt8Storage": P2 + b"(" + word("storage") + glob("torch", "QInt8Storage") + word("0") + word("cpu") + b"K\x04tQ.",
    "numpy scalar of objects": P2 + glob("numpy.core.multiarray", "scalar") + b"(tR.",
    "a storage class called": P2 + glob("torch", "FloatStorage") + b"(K\x04tR.",
    "STACK_GLOBAL": b"\x80\x04" + word("os") + word("system") + b"\x93" + CALL + b".",
    "STACK_GLOBAL from the memo": b"\x80\x04" + word("os") + b"\x94" + word("system") + b"\x94" + b"h\x00h\x01\x93" + CALL + b".",
    "STACK_GLOBAL, name overwritten in the memo": b"\x80\x04"
    + word("collections")
    + b"q\x00"
    + word("os")
    + b"q\x00"
    + b"h\x00"
    + word("system")
    + b"\x93.",
    "STACK_GLOBAL of numbers": b"\x80\x04K\x01K\x02\x93.",
    "memo overwritten by MEMOIZE": b"\x80\x04" + word("a") + b"q\x01" + word("b") + b"\x94.",
    "memo never written": P2 + b"h\x05.",
    "memo written with nothing": P2 + b"q\x00.",
    "INST": b"(" + word(f"touch {CANARY}") + b"ios\nsystem\n.",
    "OBJ": P2 + b"(" + glob("os", "system") + word(f"touch {CANARY}") + b"o.",
    "NEWOBJ": P2 + glob("collections", "OrderedDict") + b")\x81.",
    "NEWOBJ_EX": b"\x80\x04" + glob("collections", "OrderedDict") + b")}\x92.",
    "EXT1": P2 + b"\x82\x01.",
    "PERSID": b"Pstorage\n.",
    "BINPERSID of a string": P2 + word("0") + b"Q.",
    "BINPERSID with a number as key": P2 + b"(" + word("storage") + glob("torch", "FloatStorage") + b"K\x00" + word("cpu") + b"K\x04tQ.",
    "NEXT_BUFFER": b"\x80\x05\x97.",
    "DUP": P2 + b"K\x012.",
    "POP": P2 + b"K\x01K\x020.",
    "STRING": b"S'a'\n.",
    "UNICODE": b"Va\n.",
    "INT": b"I1\n.",
    "GET": b"g0\n.",
    "unknown opcode": P2 + b"\xff.",
    "a name as the value": P2 + glob("collections", "OrderedDict") + b".",
    "a name in a list": P2 + b"]" + glob("collections", "OrderedDict") + b"a.",
    "a name in a tuple in a list": P2 + b"]" + glob("torch", "FloatStorage") + b"\x85a.",
    "a name as a value of a dict": P2 + b"}" + word("a") + glob("numpy", "ndarray") + b"s.",
    "a name as state": P2 + glob("collections", "OrderedDict") + b")R" + glob("numpy", "ndarray") + b"b.",
    "BUILD on a list": P2 + b"]}b.",
    "BUILD on a string": P2 + word("a") + b"}b.",
    "REDUCE of a string": P2 + word("os.system") + b")R.",
    "REDUCE with a list": P2 + glob("collections", "OrderedDict") + b"]R.",
    "SETITEM on a list": P2 + b"]K\x00K\x01s.",
    "SETITEM on an opaque": P2 + glob("numpy", "dtype") + b")RK\x00K\x01s.",
    "APPEND to a dict": P2 + b"}K\x00a.",
    "key twice": P2 + b"}" + word("a") + b"K\x01s" + word("a") + b"K\x02s.",
    "odd SETITEMS": P2 + b"}(K\x01u.",
    "list in itself": P2 + b"]q\x00h\x00a.",
    "dict in itself": P2 + b"}q\x00" + word("a") + b"h\x00s.",
    "two lists in each other": P2 + b"]q\x00]q\x01h\x00ah\x00h\x01a.",
    "grows after it was held": P2 + b"]q\x00]h\x00ah\x00K\x01a.",
    "tuple 100,000 deep": P2 + b")" + b"\x85" * 100_000 + b".",
    "list 1000 deep": P2 + b"]" * 1000 + b"a" * 999 + b".",
    "marks 100,000 deep": P2 + b"(" * 100_000 + b".",
    "a million opcodes": P2 + b"N" * 1_000_000 + b".",
    "string length 2^32-1": P2 + b"X\xff\xff\xff\xff.",
    "string of 2 MB": P2 + word("x" * (2 << 20)) + b".",
    "string not UTF-8": P2 + b"X\x02\x00\x00\x00\xff\xfe.",
    "bytes of 2 GB": b"\x80\x03B\x00\x00\x00\x80.",
    "integer of 255 bytes": P2 + b"\x8a\xff" + bytes(255) + b".",
    "LONG4": P2 + b"\x8b\x10\x00\x00\x00" + bytes(16) + b".",
    "frame of 2^63": b"\x80\x04\x95" + struct.pack("<Q", 1 << 63) + b"N.",
    "name without end": P2 + b"ccollections\n" + b"x" * 10_000,
    "name of 10 kB": P2 + glob("collections", "x" * 10_000) + b")R.",
    "protocol 6": b"\x80\x06N.",
    "protocol 0 declared": b"\x80\x00N.",
    "protocol twice": P2 + P2 + b"N.",
    "no STOP": P2 + b"N",
    "STOP on nothing": P2 + b".",
    "STOP on a mark": P2 + b"(.",
    "two values": P2 + b"NN.",
    "a second pickle behind the first": pickle.dumps(1, 2) + pickle.dumps(Gadget(eval, TOUCH), 2),
    "payload, then a broken tail": P2 + glob("os", "system") + CALL + b"\xff\xff",
    "empty": b"",
}


@pytest.mark.parametrize("name", BY_HAND)
def test_refuses_every_trick_of_the_machine_itself(name: str) -> None:
    begun = time.process_time()
    with pytest.raises(ContractError) as caught:
        read_pickle(BY_HAND[name], HERE)
    assert time.process_time() - begun < 1  # 0.2 measured
    assert "x.pt" in caught.value.lines()[0]


def test_the_gadgets_are_live() -> None:
    """The same bytes do execute under `pickle`: else this module would prove nothing."""
    pickle.loads(BY_HAND["GLOBAL os.system"])
    assert CANARY.exists()
    CANARY.unlink()


def test_nothing_is_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    def never(name: str, *_: Any, **__: Any) -> Any:
        raise AssertionError(f"import of {name}")

    data = pickle.dumps({"a": collections.OrderedDict(b=1), "by": b"bytes"}, 2)
    bad = pickle.dumps(GADGETS["importlib"], 4)
    monkeypatch.setattr(builtins, "__import__", never)
    read_pickle(data, HERE)
    with pytest.raises(ContractError):
        read_pickle(bad, HERE)


SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(1 << 200), 1 << 200)
    | st.floats(allow_nan=False)
    | st.text(max_size=9).filter(lambda s: s.isascii() or s.isprintable())
)
PLAIN = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.lists(inner, max_size=4).map(tuple)
        | st.dictionaries(st.text(max_size=4) | st.integers(0, 99), inner, max_size=4)
    ),
    max_leaves=20,
)


@settings(max_examples=200, deadline=5000)
@given(PLAIN, st.sampled_from([2, 3, 4, 5]))
def test_reads_plain_data_as_pickle_does(value: Any, protocol: int) -> None:
    try:
        data = pickle.dumps(value, protocol)
    except UnicodeEncodeError:
        return
    assert read_pickle(data, HERE) == pickle.loads(data)


SOUND = pickle.dumps({"a": [1, 2.5, "x", (None, True)], "b": collections.OrderedDict(c=1 << 70), "d": b"bytes"}, 2)


@settings(max_examples=500, deadline=5000)
@given(st.lists(st.tuples(st.integers(0, len(SOUND) - 1), st.integers(0, 255)), min_size=1, max_size=6), st.integers(0, len(SOUND)))
def test_damaged_bytes_are_read_or_refused_never_more(flips: list[tuple[int, int]], stop: int) -> None:
    raw = bytearray(SOUND)
    for at, value in flips:
        raw[at] = value
    with contextlib.suppress(ContractError):
        read_pickle(bytes(raw[:stop] if stop % 3 == 0 else raw), HERE)


OPCODES = [code.code.encode("latin-1") for code in pickletools.opcodes]


@settings(max_examples=500, deadline=5000)
@given(
    st.lists(
        st.sampled_from(OPCODES) | st.binary(max_size=3) | st.sampled_from([word("a"), b"q\x00", b"h\x00", glob("collections", "OrderedDict")]),
        max_size=40,
    )
)
def test_random_programs_are_read_or_refused_never_more(parts: list[bytes]) -> None:
    with contextlib.suppress(ContractError):
        read_pickle(P2 + b"".join(parts) + b".", HERE)


def test_a_float_is_read_to_the_bit() -> None:
    assert read_pickle(pickle.dumps([math.pi, -0.0, math.inf], 2), HERE) == [math.pi, -0.0, math.inf]
