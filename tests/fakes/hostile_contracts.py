"""Contract files as a hostile or careless hand writes them: each with where it must be refused.

Here: the list. Not here: reading them (tests/interlock/contracts/test_hostile.py). Cases follow build files seen in the wild and RFC 8259's corners.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from fakes.artifacts import resealed

BIG = 4 << 20


@dataclass(frozen=True)
class Case:
    """`where` is the place that is named, or None where the text is no JSON and a line or offset is told."""

    name: str
    data: bytes
    where: str | None = None


def cases(document: dict[str, Any]) -> list[Case]:
    """Every case, from a true checkpoint contract."""
    return [*_texts(json.dumps(document, indent=2)), *_values(document), *_fields(document), *_large(document)]


def _texts(text: str) -> Iterator[Case]:
    """What is not strict JSON, or not one object."""
    plain = text.encode()
    yield from (
        Case("empty", b""),
        Case("space", b" \n"),
        Case("null", b"null"),
        Case("true", b"true"),
        Case("number", b"1"),
        Case("string", b'"x"'),
        Case("array", b"[]"),
        Case("array around", b"[" + plain + b"]"),
        Case("cut in half", plain[: len(plain) // 2]),
        Case("cut by one", plain[:-1]),
        Case("twice", plain + plain),
        Case("trailing comma", plain[:-1] + b",}"),
        Case("trailing word", plain + b" x"),
        Case("trailing NUL", plain + b"\0"),
        Case("leading NUL", b"\0" + plain),
        Case("NUL inside", plain.replace(b"kind", b"ki\0nd", 1)),
        Case("BOM", b"\xef\xbb\xbf" + plain),
        Case("UTF-16", text.encode("utf-16")),
        Case("UTF-16 LE", text.encode("utf-16-le")),
        Case("UTF-16 BE", text.encode("utf-16-be")),
        Case("UTF-32", text.encode("utf-32")),
        Case("UTF-7", b"+AHsAfQ-"),
        Case("Latin-1", plain.replace(b"random", b"r\xe4ndom", 1)),
        Case("overlong", plain.replace(b"random", b"r\xc1\xa1ndom", 1)),
        Case("encoded surrogate", plain.replace(b"random", b"\xed\xa0\x80", 1)),
        Case("beyond Unicode", plain.replace(b"random", b"\xf4\x90\x80\x80", 1)),
        Case("cut character", plain[:-1] + b"\xe2\x82"),
        Case("line comment", b"// made by hand\n" + plain),
        Case("hash comment", b"# made by hand\n" + plain),
        Case("block comment", plain.replace(b",", b", /* no */", 1)),
        Case("single quotes", plain.replace(b'"', b"'")),
        Case("bare keys", plain.replace(b'"kind"', b"kind", 1)),
        Case("hex", plain.replace(b": 0", b": 0x0", 1)),
        Case("octal", plain.replace(b": 0,", b": 00,", 1)),
        Case("plus", plain.replace(b": 0,", b": +0,", 1)),
        Case("dot first", plain.replace(b": 0,", b": .0,", 1)),
        Case("dot last", plain.replace(b": 0,", b": 0.,", 1)),
        Case("underscore", plain.replace(b": 0,", b": 1_0,", 1)),
        Case("Arabic digit", plain.replace(b": 0,", ": ٣,".encode(), 1)),
        Case("True", plain.replace(b"false", b"True", 1)),
        Case("None", plain.replace(b"null", b"None", 1)),
        Case("undefined", plain.replace(b"null", b"undefined", 1)),
        Case("raw tab in a string", plain.replace(b"random", b"ran\tdom", 1)),
        Case("raw newline in a string", plain.replace(b"random", b"ran\ndom", 1)),
        Case("bad escape", plain.replace(b"random", b"ran\\xdom", 1)),
        Case("short escape", plain.replace(b"random", b"ran\\u12", 1)),
        Case("half surrogate", plain.replace(b"random", b"ran\\ud800dom", 1)),
        Case("other half surrogate", plain.replace(b"random", b"ran\\udc00dom", 1)),
        Case("half surrogate in a key", plain.replace(b"torch", b"to\\ud800rch", 1)),
        Case("form feed between", plain.replace(b",", b",\x0c", 1)),
        Case("no-break space between", plain.replace(b",", ",\u00a0".encode(), 1)),
        Case("line separator between", plain.replace(b",", ",\u2028".encode(), 1)),
        Case("missing colon", plain.replace(b'"kind":', b'"kind"', 1)),
        Case("missing comma", plain.replace(b",", b"", 1)),
        Case("extra closing", plain + b"}"),
        Case("shell", b"#!/bin/sh\nrm -rf /\n"),
        Case("HTML", b"<!DOCTYPE html><title>404</title>"),
        Case("pickle", b"\x80\x04K\x01."),
        Case("gzip", b"\x1f\x8b\x08\x00" + bytes(60)),
        Case("LFS pointer", b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n"),
        Case("YAML", b"kind: checkpoint\nschema_version: 2\n"),
        Case("JSON lines", b'{"kind": "checkpoint"}\n{"kind": "checkpoint"}\n'),
        Case("merge conflict", b"<<<<<<< HEAD\n" + plain + b"\n=======\n" + plain),
    )


def _values(document: dict[str, Any]) -> Iterator[Case]:
    """Values that the standard parser accepts and a contract must not, at a place that can be named."""
    text = json.dumps(document)
    assert '"step": 0' in text and '"norm_eps": 1e-05' in text
    for value in ("NaN", "Infinity", "-Infinity", "1e999", "-1e999", "1e400", "1e-400", "9" * 5000, "-" + "9" * 5000, "9007199254740993", "-0",
                  "1." + "1" * 5000, "1e" + "9" * 5000, "0." + "0" * 5000 + "1", "123456789012345678"):  # fmt: skip
        name = value if len(value) < 24 else f"{value[:8]}… of {len(value)} characters"
        yield Case(f"step {name}", text.replace('"step": 0', f'"step": {value}').encode(), "/step")
        yield Case(f"norm_eps {name}", text.replace('"norm_eps": 1e-05', f'"norm_eps": {value}').encode(), "/arch/norm_eps")
    yield Case("key twice", text.replace('"step": 0', '"step": 0, "step": 0').encode(), "/step")
    yield Case("key twice, once escaped", text.replace('"step": 0', '"step": 0, "\\u0073tep": 1').encode(), "/step")
    yield Case("key twice, deep", text.replace('"d_ff": 4', '"d_ff": 4, "d_ff": 4').encode(), "/arch/d_ff")
    yield Case("digest twice", text.replace('"digest": "', '"digest": "0", "digest": "').encode(), "/digest")
    yield Case("the whole body twice", f"{text[:-1]}, {text[1:]}".encode(), "/kind")


def _fields(document: dict[str, Any]) -> Iterator[Case]:
    """Documents of good JSON with true digests whose fields break a rule."""

    def edited(name: str, where: str, **changes: Any) -> Case:
        return Case(name, json.dumps(resealed(document | changes)).encode(), where)

    for version in (0, -1, 3, 999, 2**53, "2", 2.0, None, True, [2], {}):
        yield Case(f"version {version!r}", json.dumps(document | {"schema_version": version}).encode(), "/schema_version")
    for kind in ("export", "package", "deployment", "dataset", "evaluation", "teapot", "Checkpoint", "", None, 1, ["checkpoint"]):
        yield Case(f"kind {kind!r}", json.dumps(document | {"kind": kind}).encode(), "/kind")
    for field, value in document.items():
        if field not in ("kind", "schema_version", "toy", "step", "digest", "seal"):
            yield Case(f"without {field}", json.dumps(resealed({k: v for k, v in document.items() if k != field})).encode(), f"/{field}")
        if field not in ("kind", "schema_version", "digest", "seal"):
            yield edited(f"{field} of another type", f"/{field}", **{field: "text" if not isinstance(value, str) else 1})
    for field in ("digest", "seal"):
        for name, wrong in (
            ("of another", "0" * 64),
            ("empty", ""),
            ("null", None),
            ("upper case", document[field].upper()),
            ("number", 7),
            ("in a list", [document[field]]),
        ):
            yield Case(f"{field} {name}", json.dumps(document | {field: wrong}).encode(), f"/{field}")
        yield Case(f"without {field}", json.dumps({k: v for k, v in document.items() if k != field}).encode(), f"/{field}")
    yield edited("unknown field", "/surprise", surprise=1)
    yield edited("unknown field of a prototype", "/__proto__", **{"__proto__": {"toy": False}})
    entry = document["files"][0]
    for path in ("../x", "/etc/passwd", "C:x", "a\\b", "", ".", "a//b", "a/../b", "con", "x\0", "-rf", "é", "a" * 600):
        yield edited(f"path {path!r:.20}", "/files/0/path", files=[entry | {"path": path}])
    for field, value in (("bytes", -1), ("bytes", 1.5), ("bytes", "1"), ("sha256", "0"), ("sha256", "G" * 64), ("sha256", "A" * 64), ("more", 1)):
        yield edited(f"file with {field} {value!r:.12}", f"/files/0/{field}", files=[entry | {field: value}])
    yield edited("no files", "/files", files=[])
    yield edited("a file twice", "/", files=[entry, entry])
    yield edited("input of no kind", "/inputs/0/kind", inputs=[{"kind": "teapot", "digest": "0" * 64}])
    yield edited("input of no digest", "/inputs/0/digest", inputs=[{"kind": "source", "digest": "../../etc/passwd"}])
    arch = document["arch"]
    broken = {"d_model": 0, "n_heads": -2, "n_layers": 1e3, "norm_eps": "1", "rope_theta": -1.0, "d_head": 3, "tie_embeddings": 1, "d_ff": 10**12}
    for field, value in broken.items():
        yield edited(f"arch with {field} {value}", f"/arch/{field}", arch=arch | {field: value})


def _large(document: dict[str, Any]) -> Iterator[Case]:
    """What must be refused without being built: one more than the limits, and as much as they allow."""
    text = json.dumps(document)[:-1]
    yield Case("more bytes than allowed", text.encode() + b" " * BIG + b"}")
    yield Case("deep arrays", b"[" * 100_000)
    yield Case("deep arrays, closed", b"[" * 100_000 + b"]" * 100_000)
    yield Case("deep objects", b'{"a":' * 100_000 + b"1" + b"}" * 100_000)
    yield Case("65 levels in a field", f'{text}, "x": {"[" * 64}{"]" * 64}}}'.encode())
    yield Case("many closing", b"]" * BIG)
    yield Case("many strings", b"[" + b'"",' * 1_000_000 + b'""]')
    yield Case("many numbers", b"[" + b"1," * 2_000_000 + b"1]")
    yield Case("many empty arrays", b"[" + b"[]," * 1_000_000 + b"[]]")
    yield Case("many empty objects", b'{"a":[' + b"{}," * 1_000_000 + b"{}]}")
    yield Case("many keys", ("{" + ",".join(f'"{number}":1' for number in range(300_000)) + "}").encode())
    yield Case("one key many times", ("{" + ",".join('"a":1' for _ in range(19_000)) + "}").encode(), "/a")
    yield Case("one long string", b'{"kind": "' + b"x" * (BIG - 100) + b'"}', "/kind")
    yield Case("one long string of escapes", b'{"kind": "' + b"\\u0061" * (BIG // 7) + b'"}')
    yield Case("one long string of quotes", b'{"kind": "' + b'\\"' * (BIG // 3) + b'"}')
    yield Case("one long key", b'{"' + b"k" * (BIG - 100) + b'": NaN}', None)
    yield Case("one long number", b'{"kind": ' + b"1" * (BIG - 100) + b"}", "/kind")
    yield Case("one long fraction", b'{"kind": 0.' + b"1" * (BIG - 100) + b"}", "/kind")
    yield Case("one long word", b'{"kind": ' + b"t" * (BIG - 100) + b"}")
    yield Case("one long space", b"{" + b" " * (BIG - 100))
    yield Case("an open string", b'{"kind": "' + b"[" * (BIG - 100))
    yield Case("backslashes", b'{"kind": "' + b"\\" * (BIG - 101) + b'"}')
    yield Case("as many wrong numbers as allowed", ("[" + ",".join(["NaN"] * 19_000) + "]").encode(), "/0")
    yield Case("as many wrong entries as allowed", json.dumps(resealed(document | {"files": [1] * 19_000})).encode(), "/files/0")
    yield Case("as many unknown fields as allowed", json.dumps(resealed(document | {f"x{number}": 1 for number in range(19_000)})).encode(), "/x0")
    yield Case(
        "as many packages as allowed, one wrong",
        json.dumps(resealed(document | {"inputs": [document["inputs"][0]] * 3000 + [1]})).encode(),
        "/inputs/3000",
    )
