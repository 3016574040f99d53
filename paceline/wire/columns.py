"""Packed columns and enums, checked as they come in."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar

import numpy as np

from paceline import messages as m
from paceline.errors import FieldError
from paceline.speculation.fields import require
from paceline.speculation.policy import MAX_NAME, Mode, Shape
from paceline.v1 import common_pb2 as common

MODES = {Mode.OVERLAPPED: common.MODE_OVERLAPPED, Mode.LOCKSTEP: common.MODE_LOCKSTEP, Mode.OFF: common.MODE_OFF}
SHAPES = {Shape.TREE: common.SHAPE_TREE, Shape.CHAIN: common.SHAPE_CHAIN}
FINISH = {
    m.FinishReason.STOP: common.FINISH_REASON_STOP,
    m.FinishReason.LENGTH: common.FINISH_REASON_LENGTH,
    m.FinishReason.ABORT: common.FINISH_REASON_ABORT,
    m.FinishReason.ERROR: common.FINISH_REASON_ERROR,
}
FROM_MODE = {wire: mode for mode, wire in MODES.items()}
FROM_SHAPE = {wire: shape for shape, wire in SHAPES.items()}
FROM_FINISH = {wire: reason for reason, wire in FINISH.items()}
MAX_KEY = 32
"""Bytes."""
_EnumT = TypeVar("_EnumT")


def pack_tokens(token_ids: Sequence[int]) -> bytes:
    """Token ids as little-endian uint32."""
    return np.asarray(token_ids, "<u4").tobytes()


def unpack_tokens(data: bytes, field: str) -> tuple[int, ...]:
    return tuple(column(data, "<u4", field).tolist())


def column(data: bytes, dtype: str, field: str) -> np.ndarray[tuple[int], np.dtype[Any]]:
    width = np.dtype(dtype).itemsize
    if len(data) % width:
        raise FieldError(field, f"{len(data)} bytes", f"a multiple of {width} bytes")
    return np.frombuffer(data, dtype)


def check_name(text: str, field: str) -> str:
    """Names are kept for as long as they mean something: none is longer than one may be."""
    require(len(text) <= MAX_NAME, field, f"{len(text)} characters", f"at most {MAX_NAME}")
    return text


def check_key(key: bytes) -> bytes:
    """An HMAC-SHA256, or nothing that could be one."""
    require(len(key) <= MAX_KEY, "key", f"{len(key)} bytes", f"at most {MAX_KEY}")
    return key


def enum(table: dict[Any, _EnumT], value: int, default: _EnumT, field: str) -> _EnumT:
    if value == 0:
        return default
    try:
        return table[value]
    except KeyError:
        raise FieldError(field, value, f"one of {', '.join(str(number) for number in table)}") from None
