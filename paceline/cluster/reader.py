"""From the mappings and lists of a YAML file to frozen values, with every error at once."""

from __future__ import annotations

import dataclasses
from typing import Any, TypeVar, get_type_hints

from paceline.settings.redaction import redacted
from paceline.speculation.fields import FieldError, known_names

PartT = TypeVar("PartT")

EXPECTED: dict[Any, str] = {
    int: "a whole number", float: "a number", bool: "true or false", str: "a string",
    str | None: "a string or null", tuple[str, ...]: "a list of strings",
}  # fmt: skip


class Reader:
    """Notes errors by dotted key and goes on with a default, or an empty value where there is none."""

    def __init__(self) -> None:
        self.errors: list[FieldError] = []

    def note(self, key: str, value: object, expected: str) -> None:
        self.errors.append(FieldError(key, redacted(key, value), expected))

    def mapping(self, key: str, value: Any) -> dict[str, Any]:
        """A mapping whose keys are strings."""
        if not isinstance(value, dict):
            self.note(key, value, "a mapping")
            return {}
        for name in value:
            if not isinstance(name, str):
                self.note(f"{key}.{name}", value[name], "a key that is a string")
        return {name: item for name, item in value.items() if isinstance(name, str)}

    def sequence(self, key: str, value: Any) -> list[Any]:
        if not isinstance(value, list):
            self.note(key, value, "a list")
            return []
        return value

    def parts(self, kind: type[PartT], key: str, value: Any) -> dict[str, PartT]:
        """A mapping of names to values of one kind."""
        return {name: self.part(kind, f"{key}.{name}", item) for name, item in self.mapping(key, value).items()}

    def part(self, kind: type[PartT], key: str, value: Any) -> PartT:
        """A mapping as a value of ``kind``."""
        given, hints = self.known(kind, key, self.mapping(key, value)), get_type_hints(kind)
        values = {
            field.name: self._value(f"{key}.{field.name}", given, field, hints[field.name])
            for field in dataclasses.fields(kind)  # type: ignore[arg-type]
        }
        return kind(**values)

    def value(self, key: str, value: Any, hint: Any, otherwise: Any) -> Any:
        """``value`` if it is of a type, or else, noted, ``otherwise``."""
        if hint is float and type(value) is int:
            return float(value)
        if hint == tuple[str, ...]:
            right = isinstance(value, list) and all(isinstance(item, str) for item in value)
            value = tuple(value) if right else value
        elif hint == str | None:
            right = value is None or isinstance(value, str)
        else:
            right = type(value) is hint
        if not right:
            self.note(key, value, EXPECTED[hint])
        return value if right else otherwise

    def known(self, kind: type[Any], key: str, given: dict[str, Any]) -> dict[str, Any]:
        """What ``kind`` has fields for; everything else is noted."""
        names = [field.name for field in dataclasses.fields(kind)]
        for name, value in given.items():
            if name not in names:
                self.note(f"{key}.{name}".lstrip("."), value, f"one of the keys {known_names(names, name)}")
        return {name: value for name, value in given.items() if name in names}

    def _value(self, key: str, given: dict[str, Any], field: dataclasses.Field[Any], hint: Any) -> Any:
        required = field.default is dataclasses.MISSING
        otherwise = hint() if required else field.default
        if field.name in given:
            return self.value(key, given[field.name], hint, otherwise)
        if required:
            self.note(key, None, "a value")
        return otherwise
