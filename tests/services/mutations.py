"""Messages that nobody should send: valid ones changed field by field, or damaged as bytes. All from one seed."""

from __future__ import annotations

import random
import struct
from collections.abc import Callable, Sequence
from typing import Any

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

DAMAGED = 0.1
"""Share of messages whose bytes are damaged, so that many of them are no messages at all."""
UNCHANGED = 0.15
MOST_CHANGES = 4
LONG, LONGEST, LONGEST_OFTEN = 3_000, 300_000, 0.02
MANY = 900
"""Below what ends a stream; twice as many are above it."""

_INTEGERS = {
    FieldDescriptor.CPPTYPE_INT32: (-(1 << 31), (1 << 31) - 1),
    FieldDescriptor.CPPTYPE_INT64: (-(1 << 63), (1 << 63) - 1),
    FieldDescriptor.CPPTYPE_UINT32: (0, (1 << 32) - 1),
    FieldDescriptor.CPPTYPE_UINT64: (0, (1 << 64) - 1),
}
_FLOATS = (float("nan"), float("inf"), float("-inf"), 0.0, -0.0, -1.0, 1.0, 5e-324, 1e-4, 1e38, -1e38)
_TEXTS = (
    "", " ", "\0", "none", "shared", "tenant", "grammar", "../../etc/passwd", "\U0001f600" * 40, "\u202e", "a|b",
    "{" * 99, '{"type": "object"}', '{"$ref": "#"}', '{"items":' * 200, "[" * LONG, "(" * 999, "a{1,999}{1,999}{1,999}",
    "(a|a)*b", "root ::= root", "start: start", "root ::= " + "(" * 999, '["a", "b"]', '["\\ud800"]', "[1]", "%json {",
    "x ::=", "start: " + "\n".join(f"r{i}: r{i + 1}" for i in range(400)),
    "(?<=a)b", "\\p{Greek}+", "{{ raise_exception(1) }}",
)  # fmt: skip


class Mutations:
    """``words`` are values that mean something: ids of sessions, names of drafters."""

    def __init__(self, seed: int, words: Sequence[str] = ()) -> None:
        self.random = random.Random(seed)
        self._words = words

    def encoded(self, valid: Message) -> bytes:
        """What goes over the wire in place of ``valid``."""
        return self.damaged(valid) if self.random.random() < DAMAGED else self.varied(valid)

    def stream(self, valid: Sequence[Message], count: int) -> list[bytes]:
        """So many messages, of which only the last is damaged: it may end the stream."""
        varied = [self.varied(self.random.choice(valid)) for _ in range(count - 1)]
        return [*varied, self.damaged(self.random.choice(valid))]

    def varied(self, valid: Message) -> bytes:
        message = valid if self.random.random() < UNCHANGED else self._changed(valid)
        return message.SerializeToString()

    def _changed(self, valid: Message) -> Message:
        message = type(valid)()
        message.CopyFrom(valid)
        for _ in range(self.random.randint(1, MOST_CHANGES) if message.DESCRIPTOR.fields else 0):
            holder, field = self.random.choice(self._places(message))
            self._change(holder, field)
        return message

    def _places(self, message: Message) -> list[tuple[Message, Any]]:
        """Every field of the message and of those within it that are set."""
        places: list[tuple[Message, Any]] = [(message, field) for field in message.DESCRIPTOR.fields]
        for field, value in message.ListFields():
            if field.message_type is not None and not _is_map(field):
                for part in value if field.is_repeated else [value]:
                    places += self._places(part)
        return places

    def _change(self, holder: Any, field: Any) -> None:
        name = field.name
        if self.random.random() < 0.1:
            holder.ClearField(name)
        elif _is_map(field):
            self._change_map(getattr(holder, name), field)
        elif field.is_repeated:
            self._change_list(getattr(holder, name), field)
        elif field.message_type is not None:
            getattr(holder, name).SetInParent()
        elif field.cpp_type == FieldDescriptor.CPPTYPE_STRING and field.type == FieldDescriptor.TYPE_BYTES:
            setattr(holder, name, self._bytes(getattr(holder, name)))
        else:
            setattr(holder, name, self._value(field))

    def _change_map(self, entries: Any, field: Any) -> None:
        key, value = (field.message_type.fields_by_name[part] for part in ("key", "value"))
        for _ in range(self.random.choice([1, 3, 2_000])):
            entries[self._value(key)] = self._value(value)

    def _change_list(self, items: Any, field: Any) -> None:
        kept = list(items)
        choices: list[Callable[[], list[Any]]] = [list, lambda: kept[::-1], lambda: kept * 2, lambda: kept * MANY]
        if field.message_type is None:
            choices.append(lambda: [*kept, self._value(field)])
        changed = self.random.choice(choices)()
        del items[:]
        items.extend(changed[:MANY])
        if self.random.random() < LONGEST_OFTEN:
            items.extend(kept * MANY)

    def _value(self, field: Any) -> Any:
        match field.cpp_type:
            case FieldDescriptor.CPPTYPE_STRING:
                return self._text()
            case FieldDescriptor.CPPTYPE_BOOL:
                return self.random.random() < 0.5
            case FieldDescriptor.CPPTYPE_FLOAT | FieldDescriptor.CPPTYPE_DOUBLE:
                return self.random.choice([*_FLOATS, self.random.gauss(0, 2)])
            case FieldDescriptor.CPPTYPE_ENUM:
                return self.random.choice([-1, 0, 1, 2, 3, 99, (1 << 31) - 1])
        low, high = _INTEGERS[field.cpp_type]
        near = self.random.choice([0, 1, 2, 3, 63, 64, 256, 257, 511, 512, 1024, 4096])
        return self.random.choice([near, near, low, high, low + near, high - near])

    def _text(self) -> str:
        chance = self.random.random()
        if chance < LONGEST_OFTEN:
            return self.random.choice("xé\U0001f600") * LONGEST
        if chance < 0.15:
            return "x" * LONG
        return self.random.choice([*_TEXTS, *self._words, *self._words])

    def _bytes(self, data: bytes) -> bytes:
        """Columns of a wrong length, of extreme values, of none, of far too many."""
        wild = struct.pack("<f", self.random.choice(_FLOATS)) + b"\xff" * 4
        number = struct.pack("<I", self.random.choice([0, 1, 63, 319, 320, 4096, 1 << 31, (1 << 32) - 1]))
        return self.random.choice(
            [b"", data[:-1], data + b"\0", data + data, data[::-1], data[4:], number, number * 2, data + number, wild,
             number * 300, number * 1_100, self.random.randbytes(16), self.random.randbytes(self.random.randint(1, 64))]
        )  # fmt: skip

    def damaged(self, valid: Message) -> bytes:
        damaged = bytearray(valid.SerializeToString())
        for _ in range(self.random.randint(1, 8)):
            at = self.random.randint(0, len(damaged))
            damaged[at : at + self.random.randint(0, 4)] = self.random.randbytes(self.random.randint(0, 4))
        return bytes(damaged)


def _is_map(field: Any) -> bool:
    return field.message_type is not None and bool(field.message_type.GetOptions().map_entry)
