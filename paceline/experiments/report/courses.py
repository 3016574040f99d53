"""A comparison along an axis, in words."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from paceline.experiments.report.axes import Axis
from paceline.experiments.report.flips import Course, Flip
from paceline.experiments.report.study import Series
from paceline.experiments.results import System
from paceline.experiments.specification import HIGH, LOW, MID, PRICES

Courses = Mapping[str, Course]


def courses(series: Series, system: System, rival: System) -> Courses:
    """By price."""
    return {price: series.course(system, rival, price) for price in PRICES}


def in_words(axis: Axis, found: Courses) -> str:
    """Where it is cheaper and where dearer at mid prices, flips with their range over prices, and what low and high
    prices say otherwise."""
    mid = found[MID]
    if not mid.places:
        return "neither has a token within the SLO"
    text = _throughout(mid)
    if mid.flips:
        parts = [f"{_before(flip)} {_at(axis, found, number)}" for number, flip in enumerate(mid.flips)]
        text = f"{', '.join(parts)}, {_turned(mid.flips[-1])} beyond"
    others = [
        f"at {price} prices {_brief(axis, found[price])}" for price in (LOW, HIGH) if not _alike(found[price], mid)
    ]
    left_out = ", ".join(axis.amount(place) for place in mid.left_out)
    nothing = f" (at {left_out} neither has a token within the SLO)" if left_out else ""
    return "; ".join([text, *others]) + nothing


def in_sum(axis: Axis, every: Sequence[Courses]) -> str:
    """Many at mid prices: how many go which way, and between which places they flip."""
    mid = [found[MID] for found in every]
    kinds = [_throughout(course) if not course.flips else "" for course in mid if course.places]
    told = [f"{kind} in {kinds.count(kind)}" for kind in dict.fromkeys(kinds) if kind]
    for to_cheaper in (True, False):
        turns = [[flip for flip in course.flips if flip.to_cheaper is to_cheaper] for course in mid]
        flips = [flip for found in turns for flip in found]
        if flips:
            low, high = min(flip.after for flip in flips), max(flip.before for flip in flips)
            known = [flip.at for flip in flips if math.isfinite(flip.at)]
            if len(known) == len(flips):
                low, high = min(known), max(known)
            place = f"about {axis.amount(low)}" if low == high else f"{axis.amount(low)} to {axis.amount(high)}"
            told.append(f"turning {_turned(flips[0])} in {sum(map(bool, turns))}, at {place}")
    nothing = sum(not course.places for course in mid)
    told += [f"without a token within the SLO in {nothing}"] if nothing else []
    return f"of {len(every)} combinations of all else, {'; '.join(told)}"


def _before(flip: Flip) -> str:
    return "dearer" if flip.to_cheaper else "cheaper"


def _turned(flip: Flip) -> str:
    return "cheaper" if flip.to_cheaper else "dearer"


def _throughout(course: Course) -> str:
    """Without a flip."""
    if not (course.ever_cheaper or course.ever_dearer):
        return "as dear everywhere"
    if 0 in course.signs:
        return "never cheaper" if course.ever_dearer else "never dearer"
    return "dearer everywhere" if course.ever_dearer else "cheaper everywhere"


def _at(axis: Axis, found: Courses, number: int) -> str:
    """About where, and between which places over the prices if they flip as often."""
    flip = found[MID].flips[number]
    others = [course.flips[number].at for course in found.values() if _alike(course, found[MID])]
    low, high = axis.amount(min(others)), axis.amount(max(others))
    span = f" ({low} to {high} over prices)" if low != high and all(map(math.isfinite, others)) else ""
    return _place(axis, flip) + span


def _place(axis: Axis, flip: Flip) -> str:
    if math.isfinite(flip.at):
        return f"up to about {axis.amount(flip.at)}"
    return f"up to somewhere between {axis.amount(flip.after)} and {axis.amount(flip.before)}"


def _brief(axis: Axis, course: Course) -> str:
    if not course.flips:
        return _throughout(course)
    return ", ".join(f"{_before(flip)} {_place(axis, flip)}" for flip in course.flips)


def _alike(one: Course, other: Course) -> bool:
    """The same answers in the same order."""
    turns = [flip.to_cheaper for flip in one.flips] == [flip.to_cheaper for flip in other.flips]
    return turns and (bool(one.flips) or _throughout(one) == _throughout(other))
