"""How the answer depends on one thing: a system's cost over a rival's along an axis, and the places where it flips."""

from __future__ import annotations

import math
from collections.abc import Sequence

from markupsafe import Markup

from paceline.experiments.report.canvas import BOTTOM, LEFT, NARROW, TOP, Canvas, line, stroke, words
from paceline.experiments.report.markup import element, figure
from paceline.experiments.report.scales import Scale, around
from paceline.experiments.report.study import Configuration, Series
from paceline.experiments.results import System
from paceline.experiments.specification import HIGH, LOW, MID, PRICES

MOST_LINES = 5
Point = tuple[float, float, Configuration]


def ratio_scale(every: Sequence[Series], system: System, rivals: Sequence[System]) -> Scale:
    """One for all rivals."""
    ratios = [
        math.exp(one.ratio(system, rival, price))
        for series in every
        for one in series.configurations
        for rival in rivals
        for price in PRICES
        if one.has(system, rival) and math.isfinite(one.ratio(system, rival, price))
    ]
    return around([1.0, *ratios], BOTTOM, TOP, wide=True)


def ratio_chart(chosen: Sequence[Series], names: Sequence[str], system: System, rival: System, y: Scale) -> Markup:
    """A line for each scenario with its name; a band from low to high prices; a ring where it flips at mid prices."""
    axis = chosen[0].axis
    canvas = Canvas(around(axis.numbers, LEFT, NARROW, wide=axis.wide), y)
    level = min(max(y.at(1.0), TOP), BOTTOM)
    canvas.add(element("rect", x=LEFT, y=level, width=NARROW - LEFT, height=BOTTOM - level, class_="good"))
    canvas.axes(axis.title, "cost ratio", axis.numbers)
    canvas.add(stroke(LEFT, level, NARROW, level, "even"))
    canvas.add(words(LEFT + 4, TOP + 6, "dearer", "tick"), words(LEFT + 4, BOTTOM - 5, "cheaper", "tick"))
    for corner in (TOP + 4, BOTTOM - 8):
        canvas.keep_free(LEFT + 20, corner, 18)
    for number, series in enumerate(chosen):
        _band(canvas, series, system, rival, number)
    for number, series in enumerate(chosen):
        _line(canvas, series, system, rival, number)
    ends = []
    for number, (series, name) in enumerate(zip(chosen, names, strict=True)):
        points = _points(canvas, series, system, rival, MID)
        _flips(canvas, series, system, rival, number)
        ends += [(points[-1][1], name, f"label l-{number}")] if points else []
    canvas.ends(ends)
    return canvas.drawn(f"{system.value} over {rival.value}, by {axis.label}")


def _points(canvas: Canvas, series: Series, system: System, rival: System, price: str) -> list[Point]:
    return [
        (canvas.x.at(series.axis.number(one.settings[series.axis.key])), canvas.y.at(math.exp(ratio)), one)
        for one in series.configurations
        if one.has(system, rival) and math.isfinite(ratio := one.ratio(system, rival, price))
    ]


def _band(canvas: Canvas, series: Series, system: System, rival: System, number: int) -> None:
    """Between the dearest and the cheapest of the three prices."""
    by_place: dict[float, list[float]] = {}
    for price in PRICES:
        for x, y, _ in _points(canvas, series, system, rival, price):
            by_place.setdefault(x, []).append(y)
    edge = [f"{x:.1f},{min(ys):.1f}" for x, ys in by_place.items()]
    edge += [f"{x:.1f},{max(ys):.1f}" for x, ys in reversed(by_place.items())]
    canvas.add(element("polygon", points=" ".join(edge), class_=f"band l-{number}"))


def _line(canvas: Canvas, series: Series, system: System, rival: System, number: int) -> None:
    axis, points = series.axis, _points(canvas, series, system, rival, MID)
    canvas.add(line([(x, y) for x, y, _ in points], f"course l-{number}"))
    for x, y, one in points:
        canvas.keep_free(x, y)
        costs = " to ".join(figure(math.exp(one.ratio(system, rival, price))) for price in (LOW, HIGH))
        title = (
            f"{axis.text(one.settings[axis.key])}: {figure(math.exp(one.ratio(system, rival)))} of its cost ({costs})"
        )
        canvas.add(element("circle", element("title", title), cx=x, cy=y, r=2.6, class_=f"dot l-{number}"))


def _flips(canvas: Canvas, series: Series, system: System, rival: System, number: int) -> None:
    for flip in series.course(system, rival).flips:
        if math.isfinite(flip.at):
            x, y = canvas.x.at(flip.at), canvas.y.at(1.0)
            canvas.keep_free(x, y, 6)
            canvas.add(element("circle", cx=x, cy=y, r=5, class_=f"flip l-{number}"))
            canvas.label(x, y, series.axis.amount(flip.at), "label strong")
