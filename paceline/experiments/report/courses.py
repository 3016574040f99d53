"""A comparison along an axis, in words."""

from __future__ import annotations

import math
from collections.abc import Mapping

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
        return "neither has a token within the SLO anywhere"
    first, last = axis.amount(mid.places[0]), axis.amount(mid.places[-1])
    if mid.flips:
        begins = "dearer" if mid.flips[0].to_cheaper else "cheaper"
        turns = [f"{_turned(flip)} {_at(axis, found, number)}" for number, flip in enumerate(mid.flips)]
        text = f"{begins} at {first}, {', '.join(turns)}"
    else:
        text = f"{_throughout(mid)} " + (f"from {first} to {last}" if len(mid.places) > 1 else f"at {first}")
    others = [
        f"at {price} prices {_brief(axis, found[price])}" for price in (LOW, HIGH) if not _alike(found[price], mid)
    ]
    left_out = ", ".join(axis.amount(place) for place in mid.left_out)
    nothing = f" (at {left_out} neither has a token within the SLO)" if left_out else ""
    return "; ".join([text, *others]) + nothing


def _turned(flip: Flip) -> str:
    return "cheaper" if flip.to_cheaper else "dearer"


def _throughout(course: Course) -> str:
    """Without a flip."""
    if not (course.ever_cheaper or course.ever_dearer):
        return "the same"
    often = "never cheaper" if course.ever_dearer else "never dearer"
    return often if 0 in course.signs else "dearer" if course.ever_dearer else "cheaper"


def _at(axis: Axis, found: Courses, number: int) -> str:
    """About where, and between which places over the prices if they flip as often."""
    flip = found[MID].flips[number]
    others = [course.flips[number].at for course in found.values() if _alike(course, found[MID])]
    low, high = axis.amount(min(others)), axis.amount(max(others))
    span = f" ({low} to {high} over prices)" if low != high and all(map(math.isfinite, others)) else ""
    return _place(axis, flip) + span


def _place(axis: Axis, flip: Flip) -> str:
    if math.isfinite(flip.at):
        return f"from about {axis.amount(flip.at)}"
    return f"from somewhere between {axis.amount(flip.after)} and {axis.amount(flip.before)}"


def _brief(axis: Axis, course: Course) -> str:
    if not course.flips:
        return f"{_throughout(course)} everywhere"
    return ", ".join(f"{_turned(flip)} {_place(axis, flip)}" for flip in course.flips)


def _alike(one: Course, other: Course) -> bool:
    """The same answers in the same order."""
    turns = [flip.to_cheaper for flip in one.flips] == [flip.to_cheaper for flip in other.flips]
    return turns and (bool(one.flips) or _throughout(one) == _throughout(other))
