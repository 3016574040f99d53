"""The one error of this floor: a value from outside that is not what its field expects."""

from __future__ import annotations

import contextlib
import difflib
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

MAX_SHOWN = 200
"""Characters of a value that an error repeats."""


class FieldError(ValueError):
    """Names the field, the value it was given and what was expected instead."""

    def __init__(self, field: str, value: object, expected: str) -> None:
        super().__init__(f"{field} = {shown(value)}: expected {expected}")
        self.field, self.value, self.expected = field, value, expected

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickled by what it was made from, to be raised in another process."""
        return type(self), (self.field, self.value, self.expected)

    @property
    def errors(self) -> tuple[FieldError, ...]:
        """Itself, or, of ``FieldErrors``, each one."""
        return (self,)


class FieldErrors(FieldError):
    """Several at once; field, value and expectation are those of the first."""

    def __init__(self, errors: Sequence[FieldError]) -> None:
        super().__init__(errors[0].field, errors[0].value, errors[0].expected)
        self.args = ("\n".join(str(error) for error in errors),)
        self._errors = tuple(errors)

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self._errors,)

    @property
    def errors(self) -> tuple[FieldError, ...]:
        return self._errors


class Checks:
    """Notes every error, to raise them together."""

    def __init__(self) -> None:
        self.errors: list[FieldError] = []

    def require(self, ok: bool, field: str, value: object, expected: str) -> bool:  # noqa: FBT001 - as below
        """Notes an error unless ``ok``, which it returns."""
        if not ok:
            self.errors.append(FieldError(field, value, expected))
        return ok

    @contextlib.contextmanager
    def caught(self) -> Iterator[None]:
        """What is raised inside is noted, too, and ends the block."""
        try:
            yield
        except FieldError as error:
            self.errors += error.errors

    def finish(self) -> None:
        """Raises what was noted, if anything was."""
        if self.errors:
            raise self.errors[0] if len(self.errors) == 1 else FieldErrors(self.errors)


@contextlib.contextmanager
def every_error() -> Iterator[Checks]:
    """``with every_error() as checks:`` raises at its end all that was noted inside."""
    checks = Checks()
    yield checks
    checks.finish()


def require(ok: bool, field: str, value: object, expected: str) -> None:  # noqa: FBT001 - the point of it
    """Raises ``FieldError`` unless ``ok``."""
    if not ok:
        raise FieldError(field, value, expected)


def shown(value: object, most: int = MAX_SHOWN) -> str:
    """A value as an error repeats it."""
    text = repr(value)
    return text if len(text) <= most else f"{text[:most]}…"


def known_names(known: Iterable[str], given: str, prefix: str = "") -> str:
    """What an unknown name could have been: all names, each after ``prefix``, and the one that it resembles."""
    names = list(known)
    close = difflib.get_close_matches(given.removeprefix(prefix), names, 1)
    every = ", ".join(prefix + name for name in names)
    return every + (f" (did you mean {prefix}{close[0]}?)" if close else "")
