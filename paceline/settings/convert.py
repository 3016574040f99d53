"""Values of settings from the texts of flags and variables, and from what a YAML file holds."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, get_args, get_origin, get_type_hints

from paceline.speculation.fields import FieldError

_EXPECTED: dict[Any, str] = {
    int: "a whole number", float: "a number", bool: "true or false", str: "a string", Path: "a path",
    tuple: "strings, separated by commas",
}  # fmt: skip


def convert_all(config: type[Any], given: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, FieldError]]:
    """All fields' values, and by field what is wrong with those that were given or had to be.

    A value that is missing or wrong is the field's default, or the empty one of its type.
    """
    hints = get_type_hints(config)
    values: dict[str, Any] = {}
    wrong: dict[str, FieldError] = {}
    for field in dataclasses.fields(config):
        name, hint, required = field.name, hints[field.name], field.default is dataclasses.MISSING
        values[name] = _kind(hint)() if required else field.default
        try:
            if name in given:
                values[name] = _convert(hint, given[name])
            elif required:
                wrong[name] = FieldError(name, None, field.metadata["help"])
        except ValueError:
            wrong[name] = FieldError(name, given[name], _EXPECTED[_kind(hint)])
    return values, wrong


def _convert(hint: Any, value: Any) -> Any:
    """Raises ``ValueError`` for what is not of the type."""
    kind = _kind(hint)
    if type(None) in get_args(hint) and value in (None, ""):
        return None
    if isinstance(value, str):
        converted = _FROM_TEXT[kind](value)
    elif kind is tuple and isinstance(value, list) and all(isinstance(item, str) for item in value):
        converted = tuple(value)
    elif kind is float and type(value) is int:
        converted = float(value)
    else:
        converted = value
    if type(converted) is not kind and not isinstance(converted, Path):  # True is an int to isinstance
        raise ValueError(value)
    if kind is float and not math.isfinite(converted):
        raise ValueError(value)
    return converted


def _kind(hint: Any) -> Any:
    """``int`` of ``int | None``, ``tuple`` of ``tuple[str, ...]``."""
    if get_origin(hint) is tuple:
        return tuple
    return next((part for part in get_args(hint) if part is not type(None)), hint)


def _switch(text: str) -> bool:
    if text.lower() not in ("true", "false", "1", "0"):
        raise ValueError(text)
    return text.lower() in ("true", "1")


def _words(text: str) -> tuple[str, ...]:
    return tuple(word for word in text.split(",") if word)


_FROM_TEXT: dict[Any, Callable[[str], Any]] = {
    int: int, float: float, bool: _switch, str: str, Path: Path, tuple: _words,
}  # fmt: skip
