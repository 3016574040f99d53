"""From figures to places on paper, and which figures to write beside an axis."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

_STEPS = (1, 2, 5)


@dataclass(frozen=True)
class Scale:
    """``low`` is drawn at ``begin`` and ``high`` at ``end``."""

    low: float
    high: float
    begin: float
    end: float
    wide: bool = False
    """Equal ratios are equally far apart."""

    def at(self, value: float) -> float:
        low, high = self._inner(self.low), self._inner(self.high)
        share = (self._inner(min(max(value, self.low), self.high)) - low) / (high - low)
        return self.begin + share * (self.end - self.begin)

    def ticks(self, most: int = 6) -> list[float]:
        """Round figures, from one to ``most`` of them."""
        if not self.wide:
            return next(found for found in self._even() if len(found) <= most)
        return next((found for found in self._ratios() if 2 <= len(found) <= most), self.ends())

    def ends(self) -> list[float]:
        return [self.low, self.high]

    def _inner(self, value: float) -> float:
        return math.log(value) if self.wide else value

    def _even(self) -> Iterator[list[float]]:
        """Finer first."""
        power = math.floor(math.log10((self.high - self.low) / 10))
        for exponent in range(power, power + 4):
            for step in _STEPS:
                width = step * 10.0**exponent
                first = math.ceil(self.low / width - 1e-9)
                last = math.floor(self.high / width + 1e-9)
                yield [number * width for number in range(first, last + 1)]

    def _ratios(self) -> Iterator[list[float]]:
        """Finer first."""
        powers = range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)) + 1)
        for steps in ((1, 1.5, 2, 3, 4, 5, 6, 8), (1, 2, 3, 5), _STEPS, (1, 3), (1,)):
            yield [step * 10.0**power for power in powers for step in steps if self._holds(step * 10.0**power)]

    def _holds(self, value: float) -> bool:
        return self.low * (1 - 1e-9) <= value <= self.high * (1 + 1e-9)


def around(values: Iterable[float], begin: float, end: float, *, wide: bool = False, zero: bool = False) -> Scale:
    """All finite values, and a little room; ``zero`` among them."""
    finite = [value for value in values if math.isfinite(value) and (value > 0 or not wide)] or [1.0]
    low, high = min(finite), max(finite)
    if wide:
        room = max((high / low) ** 0.06, 1.08)
        return Scale(low / room, high * room, begin, end, wide=True)
    room = 0.06 * (high - low) or 0.1 * abs(high) or 1.0
    return Scale(0.0, (high + room) or 1.0, begin, end) if zero else Scale(low - room, high + room, begin, end)
