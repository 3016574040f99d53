"""The one error of this floor: a value from outside that is not what its field expects."""

from __future__ import annotations


class FieldError(ValueError):
    """Names the field, the value it was given and what was expected instead."""

    def __init__(self, field: str, value: object, expected: str) -> None:
        super().__init__(f"{field} = {value!r}: expected {expected}")
        self.field, self.value, self.expected = field, value, expected


def require(ok: bool, field: str, value: object, expected: str) -> None:  # noqa: FBT001 - the point of it
    """Raises ``FieldError`` unless ``ok``."""
    if not ok:
        raise FieldError(field, value, expected)
