"""Where an answer changes along an axis: dearer becomes cheaper, or the other way."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

EQUAL = 1e-9


@dataclass(frozen=True)
class Flip:
    """Between ``after`` and ``before``, two places that were run. ``at``: by a straight line between the logarithms of
    the two cost ratios; NaN where one of them is not finite."""

    after: float
    before: float
    at: float
    to_cheaper: bool


@dataclass(frozen=True)
class Course:
    """What becomes of a comparison along an axis.

    ``places``: those where both costs are known, or one of them infinite; ``signs``: -1 cheaper, 0 the same, 1 dearer.
    """

    places: tuple[float, ...]
    signs: tuple[int, ...]
    flips: tuple[Flip, ...]
    left_out: tuple[float, ...] = ()
    """Where neither side has goodput."""

    @property
    def ever_cheaper(self) -> bool:
        return -1 in self.signs

    @property
    def ever_dearer(self) -> bool:
        return 1 in self.signs


def log_ratio(cost: float, rival: float) -> float:
    """Below 0 where it is cheaper; NaN if both are infinite."""
    if math.isinf(cost) and math.isinf(rival):
        return math.nan
    if cost == rival:
        return 0.0
    if rival == 0 or math.isinf(cost):
        return math.inf
    return -math.inf if cost == 0 or math.isinf(rival) else math.log(cost / rival)


def course(places: Sequence[float], ratios: Sequence[float], *, wide: bool = False) -> Course:
    """Of logarithms of cost ratios at rising places; between ``wide`` places it is the logarithm that grows evenly."""
    known = [(place, ratio) for place, ratio in zip(places, ratios, strict=True) if not math.isnan(ratio)]
    signs = tuple(0 if abs(ratio) < EQUAL else int(math.copysign(1, ratio)) for _, ratio in known)
    decided = [index for index, sign in enumerate(signs) if sign]
    flips = [
        _flip(known[before : after + 1], wide=wide)
        for before, after in itertools.pairwise(decided)
        if signs[before] != signs[after]
    ]
    left_out = tuple(place for place, ratio in zip(places, ratios, strict=True) if math.isnan(ratio))
    return Course(tuple(place for place, _ in known), signs, tuple(flips), left_out)


def _flip(span: Sequence[tuple[float, float]], *, wide: bool) -> Flip:
    """From one sign to the other; what lies between has neither, and then it is in the middle of that."""
    (first, before), *level, (last, after) = span
    if level:
        at = _between(level[0][0], level[-1][0], 0.5, wide=wide)
    elif math.isinf(before) or math.isinf(after):
        at = math.nan
    else:
        at = _between(first, last, before / (before - after), wide=wide)
    return Flip(first, last, at, after < 0)


def _between(first: float, last: float, share: float, *, wide: bool) -> float:
    if wide:
        return math.exp(_between(math.log(first), math.log(last), share, wide=False))
    return first + share * (last - first)
