"""Instruments that cost nothing until somebody asks: they read plain numbers that are added up where things happen."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Generic, TypeVar

from opentelemetry.metrics import CallbackOptions, Meter, Observation

StateT = TypeVar("StateT")
ItemT = TypeVar("ItemT")

Labelled = tuple[float, dict[str, str]]
Values = float | Iterable[Labelled]
MOST_NAMES = 256


class Readings(Generic[StateT]):
    """Instruments over one state, which is taken once for all of them each time that somebody asks."""

    def __init__(self, meter: Meter, take: Callable[[], StateT]) -> None:
        """``take`` is called from any thread."""
        self._meter, self._take = meter, take
        self._state: StateT | None = None
        self._first = ""
        """The instrument that is asked first; all of them are asked in the order in which they were made."""

    def counter(self, name: str, says: str, read: Callable[[StateT], Values], unit: str = "") -> None:
        """Only grows; its name for Prometheus ends with ``_total``."""
        self._meter.create_observable_counter(name, [self._callback(name, read)], unit, says)

    def gauge(self, name: str, says: str, read: Callable[[StateT], Values], unit: str = "") -> None:
        self._meter.create_observable_gauge(name, [self._callback(name, read)], unit, says)

    def _callback(
        self, name: str, read: Callable[[StateT], Values]
    ) -> Callable[[CallbackOptions], Iterable[Observation]]:
        self._first = self._first or name

        def observe(_: CallbackOptions) -> Iterator[Observation]:
            state = self._state
            if state is None or name == self._first:
                state = self._state = self._take()
            values = read(state)
            if isinstance(values, (int, float)):
                yield Observation(values)
                return
            for value, labels in values:
                yield Observation(value, labels)

        return observe


class Latest(dict[str, ItemT]):
    """By name, of those that were heard of last: workers come and go, and names with them."""

    def __init__(self, make: Callable[[], ItemT]) -> None:
        super().__init__()
        self._make = make

    def of(self, name: str) -> ItemT:
        """Of this name, heard of now; of too many the one that was silent longest is forgotten."""
        item = self.pop(name, None)
        if item is None:
            item = self._make()
            while len(self) >= MOST_NAMES:
                del self[next(iter(self))]
        self[name] = item
        return item
