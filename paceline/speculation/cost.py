"""What a step costs by its rows, and how many rows pay: the row budget (DESIGN §6)."""

from __future__ import annotations

import bisect
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class CostCurve:
    """Seconds of a step over ``rows`` rows of ``sessions`` sessions, as measured: linear between the measured numbers
    of rows and beyond the last, never falling; each session beyond the first costs ``per_session`` more."""

    rows: tuple[int, ...]
    seconds: tuple[float, ...]
    per_session: float = 0.0

    @classmethod
    def measured(cls, points: Sequence[tuple[int, float]], per_session: float = 0.0) -> CostCurve:
        """From pairs of rows and seconds, at least one; noise that would make more rows cheaper is taken out."""
        rising: list[float] = []
        ordered = sorted(points)
        for _, seconds in ordered:
            rising.append(max(seconds, rising[-1]) if rising else seconds)
        return cls(tuple(rows for rows, _ in ordered), tuple(rising), max(0.0, per_session))

    def __call__(self, rows: int, sessions: int = 1) -> float:
        return self._of_rows(rows) + self.per_session * (sessions - 1)

    def _of_rows(self, rows: int) -> float:
        if len(self.rows) == 1 or rows <= self.rows[0]:
            return self.seconds[0]
        right = min(bisect.bisect_left(self.rows, rows), len(self.rows) - 1)
        left = right - 1
        slope = (self.seconds[right] - self.seconds[left]) / (self.rows[right] - self.rows[left])
        return self.seconds[left] + slope * (rows - self.rows[left])


FREE = CostCurve((1,), (1.0,))
"""Rows cost nothing: every node pays."""


def nodes_that_pay(gains: Iterable[float], sessions: int, cost: Callable[[int], float]) -> int:
    """How many of the nodes to verify so that most tokens are emitted per second.

    ``gains`` are the nodes' probabilities of being accepted, falling; each of ``sessions`` emits one token without
    any. ``cost`` gives the seconds of a step with so many nodes. All lengths are looked at, not only the next one,
    because on a device rows come in flat stretches and jumps.
    """
    expected = float(sessions)
    best, best_rate = 0, expected / cost(0)
    for count, gain in enumerate(gains, 1):
        expected += gain
        rate = expected / cost(count)
        if rate > best_rate:
            best, best_rate = count, rate
    return best
