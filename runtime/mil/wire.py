"""Protocol buffers' wire format, as far as a saved model uses it, bounded against hostile input.

Here: bytes to nested records, driven by a table of fields. Not here: which fields a model has (schema.py), what they mean (reader.py).
The reader exists because the published classes come only with a converter that one of the two environments does not have. It is stricter
than the format asks: a field that may stand once stands once, and one of a choice excludes the others, so that no two readers can see
different models in one file.
Format: https://protobuf.dev/programming-guides/encoding (varint 0, 64 bits 1, length-delimited 2, 32 bits 5; the groups 3 and 4 are refused).
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

Kind = Literal["varint", "int32", "int64", "bool", "float", "double", "string", "bytes", "message"]
Record = dict[str, Any]
# As deep as the reference implementation goes; real programs reach about 20.
MAX_DEPTH = 100
# A program of 30 layers and 5 functions has 0.1 million that differ; each costs up to 0.7 kB of memory here.
MAX_MESSAGES = 2_000_000
# Fields, and numbers of packed fields: a program of 30 layers and 5 functions has 0.4 million, each costs about a microsecond.
MAX_PARTS = 8_000_000
_MAX_VARINT_BYTES = 10
# Bytes. Most operations are shorter, and a third of them stand in several functions.
_SMALL = 256
_FIXED: dict[str, tuple[int, str]] = {"float": (5, "<f"), "double": (1, "<d")}


class WireError(ValueError):
    """The bytes are no message. `offset`: where in the file."""

    def __init__(self, offset: int, problem: str) -> None:
        super().__init__(problem)
        self.offset = offset


@dataclass(frozen=True)
class Field:
    """One field of a message. choice: the name of the group of fields of which one may be present. A map is a repeated message of key and value."""

    name: str
    kind: Kind
    repeated: bool = False
    message: str = ""
    is_map: bool = False
    choice: str = ""


@dataclass(frozen=True)
class Message:
    """The fields of a message by number. open: fields that are not in the table are skipped; else they are refused."""

    fields: dict[int, Field]
    open: bool = False


def decode(schema: dict[str, Message], root: str, data: bytes) -> Record:
    """The message `root` that `data` holds: {field name: value}, absent fields left out, repeated ones as lists, maps as dicts.

    Strings are str, bytes are bytes, integers of kind int32 and int64 are signed. Raises WireError.
    """
    return _Decoder(schema, data).message(root, 0, len(data), 0)


class _Decoder:
    def __init__(self, schema: dict[str, Message], data: bytes) -> None:
        self._schema, self._data, self._messages, self._parts = schema, data, 0, 0
        self._small: dict[tuple[str, bytes], Record] = {}

    def message(self, name: str, start: int, end: int, depth: int) -> Record:
        """One message; small ones that are equal are one record, which nobody changes: programs repeat types, and functions operations."""
        if end - start > _SMALL:
            return self._fresh(name, start, end, depth)
        key = (name, self._data[start:end])
        found = self._small.get(key)
        if found is None:
            found = self._small[key] = self._fresh(name, start, end, depth)
        return found

    def _fresh(self, name: str, start: int, end: int, depth: int) -> Record:
        self._messages += 1
        if depth > MAX_DEPTH or self._messages > MAX_MESSAGES:
            raise WireError(start, f"more than {MAX_DEPTH} levels or {MAX_MESSAGES} messages")
        form, data, position = self._schema[name], self._data, start
        record: Record = {}
        chosen: dict[str, str] = {}
        while position < end:
            offset = position
            self._parts += 1
            # Short tags and lengths are read here: nearly all are short, and a call would take most of the time of all.
            if (tag := data[position]) < 128:
                position += 1
            else:
                tag, position = self._varint(position, end)
            value: Any
            if tag & 7 == 2 and position < end and (length := data[position]) < 128:
                position += 1
                value = position, (position := position + length)
            else:
                value, position = self._value(offset, tag, position, end)
            if position > end:
                raise WireError(offset, f"field {tag >> 3} reaches beyond its message")
            field = form.fields.get(tag >> 3)
            if field is None:
                if not 0 < tag >> 3 < 1 << 29:
                    raise WireError(offset, f"field number {tag >> 3}")
                if not form.open:
                    raise WireError(offset, f"field {tag >> 3} of `{name}`, which is not known")
                continue
            known = field.name
            if field.choice and chosen.setdefault(field.choice, known) != known:
                raise WireError(offset, f"`{known}` beside `{chosen[field.choice]}`")
            if field.repeated:
                self._add(record, field, offset, tag & 7, value, depth)
            elif known in record:
                raise WireError(offset, f"`{known}` twice")
            else:
                record[known] = self._item(field, offset, tag & 7, value, depth)
        self._count(start, 0)
        return record

    def _add(self, record: Record, field: Field, offset: int, wire: int, value: Any, depth: int) -> None:
        """To a list or a map."""
        if wire == 2 and field.kind not in _DELIMITED:
            record.setdefault(field.name, []).extend(self._packed(field, offset, value))
            return
        item = self._item(field, offset, wire, value, depth)
        if not field.is_map:
            record.setdefault(field.name, []).append(item)
            return
        entries, key = record.setdefault(field.name, {}), item.get("key", "")
        if key in entries:
            raise WireError(offset, f"`{field.name}` with one key twice")
        entries[key] = item.get("value", {})

    def _item(self, field: Field, offset: int, wire: int, value: Any, depth: int) -> Any:
        """One value of a field. value: as `_value` returns it."""
        kind = field.kind
        if kind in _DELIMITED:
            if wire != 2:
                raise WireError(offset, f"`{field.name}` with wire type {wire}")
            start, end = value
            if kind == "message":
                return self.message(field.message, start, end, depth + 1)
            content = self._data[start:end]
            return content if kind == "bytes" else _text(content, offset)
        fixed_wire, form = _FIXED.get(kind, (0, ""))
        if wire != fixed_wire:
            raise WireError(offset, f"`{field.name}` with wire type {wire}")
        return struct.unpack(form, value)[0] if form else _INTEGERS[kind](value)

    def _packed(self, field: Field, offset: int, span: tuple[int, int]) -> list[Any]:
        start, end = span
        if field.kind in _FIXED:
            form = _FIXED[field.kind][1]
            if (end - start) % struct.calcsize(form):
                raise WireError(offset, f"`{field.name}` with part of a number")
            self._count(start, (end - start) // struct.calcsize(form))
            return [number for (number,) in struct.iter_unpack(form, self._data[start:end])]
        convert = _INTEGERS[field.kind]
        numbers = []
        while start < end:
            value, start = self._varint(start, end)
            numbers.append(convert(value))
            self._count(start)
        return numbers

    def _value(self, offset: int, tag: int, position: int, end: int) -> tuple[Any, int]:
        """What follows a tag, and the place after it: an int for wire type 0, bytes for 1 and 5, (start, end) for 2."""
        wire = tag & 7
        if wire == 0:
            return self._varint(position, end)
        if wire == 2:
            length, position = self._varint(position, end)
            return (position, position + length), position + length
        if wire in (1, 5):
            size = 8 if wire == 1 else 4
            return self._data[position : position + size], position + size
        raise WireError(offset, f"wire type {wire}")

    def _count(self, offset: int, parts: int = 1) -> None:
        self._parts += parts
        if self._parts > MAX_PARTS:
            raise WireError(offset, f"more than {MAX_PARTS} fields and numbers")

    def _varint(self, position: int, end: int) -> tuple[int, int]:
        """An unsigned number of at most 64 bits and the place after it."""
        data = self._data
        if position < end and data[position] < 128:
            return data[position], position + 1
        value = 0
        for index in range(position, min(end, position + _MAX_VARINT_BYTES)):
            byte = data[index]
            value |= (byte & 127) << 7 * (index - position)
            if byte < 128:
                if value >> 64:
                    break
                return value, index + 1
        raise WireError(position, "a number that does not end or has more than 64 bits")


def _signed64(value: int) -> int:
    return value - (1 << 64) if value >> 63 else value


def _signed32(value: int) -> int:
    low = value & 0xFFFFFFFF
    return low - (1 << 32) if low >> 31 else low


_DELIMITED = frozenset({"string", "bytes", "message"})
_INTEGERS: dict[str, Callable[[int], int]] = {"varint": int, "int64": _signed64, "int32": _signed32, "bool": bool}


def _text(content: bytes, offset: int) -> str:
    try:
        return content.decode()
    except UnicodeDecodeError:
        raise WireError(offset, "text that is not UTF-8") from None
