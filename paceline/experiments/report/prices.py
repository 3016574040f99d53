"""What drafters' cards cost, and what they might cost to be worth it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from markupsafe import Markup

from paceline.experiments.report.break_even import BreakEven
from paceline.experiments.report.canvas import RIGHT, Canvas, mark, stroke, words
from paceline.experiments.report.markup import dollars
from paceline.experiments.report.scales import Scale, around
from paceline.experiments.report.study import RIVALS, Study
from paceline.experiments.results import System
from paceline.experiments.specification import HIGH, LOW, MID, PRICES

BAND, TOP, GUTTER, BEGIN = 74, 36, 16, 54
LANES = {System.ALONE: 33, System.COLOCATED: 48}


def by_card(every: Iterable[BreakEven]) -> dict[str, list[BreakEven]]:
    """The dearest card first."""
    found: dict[str, list[BreakEven]] = {}
    for one in every:
        found.setdefault(one.card, []).append(one)
    return dict(sorted(found.items(), key=lambda item: (-item[1][0].price[MID], item[0])))


def price_chart(study: Study, every: Sequence[BreakEven], says: str) -> Markup:
    """For each card a bar from low to high price, and below it a mark for each configuration's break-even price: at the
    target's mid price, a thin line from its low to its high price; at the left those that would not pay as a gift."""
    cards = by_card(every)
    amounts = [one.at[price] for one in every for price in PRICES] + [
        one.price[price] for one in every for price in PRICES
    ]
    x = around((amount for amount in amounts if amount > 0), BEGIN, RIGHT, wide=True)
    bottom = TOP + BAND * len(cards)
    canvas = Canvas(x, Scale(0, 1, 0, 1), bottom + 34)
    canvas.add(words(2, 9, "$ per hour of one card", "title"))
    for value in x.ticks():
        at = x.at(value)
        canvas.add(stroke(at, TOP - 8, at, bottom, "grid"), words(at, bottom + 14, f"{value:g}", "tick", "middle"))
    canvas.add(words(GUTTER - 12, bottom + 14, "≤ 0", "tick"))
    canvas.add(stroke(BEGIN - 8, TOP - 8, BEGIN - 8, bottom, "axis"))
    for number, (card, found) in enumerate(cards.items()):
        _band(canvas, study, card, found, TOP + BAND * number)
    return canvas.drawn(says)


def _band(canvas: Canvas, study: Study, card: str, found: Sequence[BreakEven], top: float) -> None:
    price, x = found[0].price, canvas.x
    canvas.add(stroke(2, top - 9, RIGHT, top - 9, "grid"))
    canvas.add(words(2, top + 6, card, "label strong"))
    free = [x.at(price[level]) if price[level] > 0 else float(GUTTER) for level in PRICES]
    bar = top + 18
    canvas.add(
        stroke(free[0], bar, max(free[2], free[0] + 1), bar, "price"), stroke(free[1], bar - 5, free[1], bar + 5, "mid")
    )
    text = " / ".join(dollars(price[level]) for level in PRICES)
    canvas.add(words(max(BEGIN, 14 + 7.2 * len(card)), top + 6, text, "tick"))
    for rival in RIVALS:
        lane = [one for one in found if one.rival is rival]
        step = min(3.0, 10.0 / max(1, len(lane)))
        for number, one in enumerate(lane):
            _mark(canvas, study, one, top + LANES[rival] + step * (number - (len(lane) - 1) / 2))


def _mark(canvas: Canvas, study: Study, one: BreakEven, y: float) -> None:
    low, high = sorted((_x(canvas, one.at[LOW]), _x(canvas, one.at[HIGH])))
    title = (
        f"{one.card}, {study.words(one.configuration.settings)}: as dear as {one.rival.value} at "
        f"{dollars(one.at[MID])} ({dollars(one.at[LOW])} at low prices, {dollars(one.at[HIGH])} at high ones)"
    )
    canvas.add(stroke(low, y, high, y, f"range s-{one.rival.name.lower()}"))
    canvas.add(mark(one.rival, _x(canvas, one.at[MID]), y, title, size=2.8))


def _x(canvas: Canvas, amount: float) -> float:
    if amount <= 0:
        return GUTTER
    return canvas.x.end if math.isinf(amount) else canvas.x.at(amount)
