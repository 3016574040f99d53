"""In how many configurations something is so, and in which: in words, from the rows alone."""

from __future__ import annotations

import itertools
from collections.abc import Collection, Mapping, Sequence

from paceline.experiments.report.axes import Axis, Value
from paceline.experiments.report.study import Configuration, Study
from paceline.experiments.specification import HIGH, LOW

Share = tuple[Value, int, int]
"""Of the configurations with a value: in how many it is so, and how many there are."""


def where(study: Study, among: Sequence[Configuration], so: Collection[int]) -> str:
    """By the values of the key that tells best where it is so; empty if it is so everywhere or nowhere.

    ``so``: identities of those of ``among`` in which it is.
    """
    if len({id(one) in so for one in among}) < 2:
        return ""
    told = {axis: _shares(axis, among, so) for axis in study.axes}
    best = max(told, key=lambda axis: _tells(told[axis], among, so), default=None)
    if best is None:
        return ""
    return f" (by {best.title}: {'; '.join(_group(best, group) for group in _alike(told[best]))})"


def how_often(count: int, among: int) -> str:
    if count == among:
        return f"always, in all {among} configurations" if among > 1 else "yes, in the only configuration"
    if count == 0:
        return f"never, in none of {among} configurations" if among > 1 else "no, not in the only configuration"
    return f"in {count} of {among} configurations"


def other_prices(counts: Mapping[str, int]) -> str:
    """What the count is at low and high prices, if it differs."""
    return (
        "" if len(set(counts.values())) == 1 else f" at mid prices, {counts[LOW]} at low, {counts[HIGH]} at high ones"
    )


def _shares(axis: Axis, among: Sequence[Configuration], so: Collection[int]) -> list[Share]:
    found = []
    for value in axis.values:
        these = [id(one) in so for one in among if one.settings.get(axis.key) == value]
        if these:
            found.append((value, sum(these), len(these)))
    return found


def _tells(shares: Sequence[Share], among: Sequence[Configuration], so: Collection[int]) -> float:
    """How far the values' shares are from that of all: squares, by configurations."""
    whole = sum(id(one) in so for one in among) / len(among)
    return sum(count * (hits / count - whole) ** 2 for _, hits, count in shares)


def _alike(shares: Sequence[Share]) -> list[list[Share]]:
    """Neighbours with the same share are one group."""
    return [list(group) for _, group in itertools.groupby(shares, key=lambda share: share[1] / share[2])]


def _group(axis: Axis, group: Sequence[Share]) -> str:
    values = [axis.short(value) for value, _, _ in group]
    named = f"{values[0]} to {values[-1]}" if len(values) > 2 and axis.numbers else ", ".join(values)
    hits, count = sum(hits for _, hits, _ in group), sum(count for _, _, count in group)
    part = "none" if hits == 0 else f"all {count}" if hits == count else f"{hits} of {count}"
    return f"{named}: {part}"
