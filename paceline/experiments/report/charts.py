"""Dollars for a million tokens against the time of a token, and goodput by load: one chart for each scenario."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

from markupsafe import Markup

from paceline.experiments.report.axes import Axis, Value
from paceline.experiments.report.canvas import (
    BOTTOM,
    CLASSES,
    LEFT,
    NARROW,
    RIGHT,
    TOP,
    Canvas,
    line,
    mark,
    stroke,
    words,
)
from paceline.experiments.report.markup import dollars, figure
from paceline.experiments.report.pareto import front
from paceline.experiments.report.scales import Scale, around
from paceline.experiments.report.study import SHORT, Configuration, Study
from paceline.experiments.results import Row, System
from paceline.experiments.specification import HIGH, LOW, MID

Choice = tuple[Configuration, Row]


def cost_scales(study: Study) -> tuple[Scale, Scale]:
    """The same for all scenarios, so that their charts can be compared."""
    rows = [row for row in study.results.rows if math.isfinite(row.dollars_per_million(MID))]
    costs = [row.dollars_per_million(price) for row in rows for price in (LOW, MID, HIGH)]
    return (
        around([row.tpot_ms.p50 for row in rows], LEFT, RIGHT, wide=True),
        around(costs, BOTTOM, TOP, wide=True),
    )


def choices(configurations: Iterable[Configuration]) -> list[Choice]:
    """What there is to choose from in a scenario; the same row of several configurations once."""
    found: dict[tuple[object, ...], Choice] = {}
    for one in configurations:
        for row in one.rows.values():
            same = (row.system, row.tpot_ms.p50, row.dollars_per_million(MID))
            found.setdefault(same, (one, row))
    return list(found.values())


def on_front(these: Sequence[Choice], price: str = MID) -> list[Choice]:
    return [these[index] for index in front([(row.tpot_ms.p50, row.dollars_per_million(price)) for _, row in these])]


def cost_chart(study: Study, configurations: Sequence[Configuration], scales: tuple[Scale, Scale], says: str) -> Markup:
    """Thin lines from low to high price; filled marks, joined by steps, are the front at mid prices."""
    canvas = Canvas(*scales)
    canvas.axes("time per token (TPOT p50), ms", "$ per million tokens")
    _slo(canvas, configurations[0].experiment.slo.tpot_ms)
    these = [choice for choice in choices(configurations) if math.isfinite(choice[1].dollars_per_million(MID))]
    best = on_front(these)
    canvas.add(line(_steps([_place(canvas, row) for _, row in best]), "front"))
    for choice in these:
        _cost_mark(canvas, study, choice, filled=choice in best)
    named = set[str]()
    for one, row in [*best, *(choice for choice in these if choice not in best)]:
        text = tag(study, one, row)
        if (one, row) in best or SHORT[row.system] not in named:
            named.add(SHORT[row.system])
            canvas.label(*_place(canvas, row), text, "label strong" if (one, row) in best else "label")
    return canvas.drawn(says)


def goodput_scales(study: Study, load: Axis) -> tuple[Scale, Scale]:
    goodputs = [row.goodput for row in study.results.rows]
    wide = load.wide
    return around(load.numbers, LEFT, NARROW, wide=wide, zero=not wide), around(goodputs, BOTTOM, TOP, zero=True)


def goodput_chart(
    load: Axis, configurations: Sequence[Configuration], scales: tuple[Scale, Scale], says: str
) -> Markup:
    """A line for each system; ``configurations`` differ in load alone."""
    canvas = Canvas(*scales)
    canvas.axes(load.title, "tokens/s within the SLO", load.numbers)
    ends = []
    for system in System:
        points = [
            (canvas.x.at(load.number(one.settings[load.key])), canvas.y.at(one.rows[system].goodput), one.rows[system])
            for one in configurations
            if system in one.rows
        ]
        canvas.add(line([(x, y) for x, y, _ in points], f"course {CLASSES[system]}"))
        for x, y, row in points:
            canvas.add(mark(system, x, y, f"{system.value}: {figure(row.goodput)} tokens/s"))
        ends += [(points[-1][1], SHORT[system], "label")] if points else []
    canvas.ends(ends)
    return canvas.drawn(says)


def _slo(canvas: Canvas, limit: float) -> None:
    if canvas.x.low < limit < canvas.x.high:
        at = canvas.x.at(limit)
        canvas.add(stroke(at, TOP, at, BOTTOM, "slo"), words(at - 4, TOP + 8, f"SLO {limit:g} ms", "tick", "end"))


def _cost_mark(canvas: Canvas, study: Study, choice: Choice, *, filled: bool) -> None:
    one, row = choice
    x, y = _place(canvas, row)
    low, mid, high = (row.dollars_per_million(price) for price in (LOW, MID, HIGH))
    title = (
        f"{row.system.value}{_apart(study.words(_chosen(study, one)))}: {figure(row.tpot_ms.p50)} ms, "
        f"{dollars(mid)} ({dollars(low)} to {dollars(high)}) per million tokens"
    )
    canvas.keep_free(x, y)
    canvas.add(stroke(x, canvas.y.at(low), x, canvas.y.at(high), f"range {CLASSES[row.system]}"))
    canvas.add(mark(row.system, x, y, title, filled=filled))


def tag(study: Study, one: Configuration, row: Row) -> str:
    """What was chosen, as far as it matters to the system."""
    chosen = _chosen(study, one)
    known = {axis.key: axis for axis in study.axes}
    which = [known[key].tag(value) for key, value in chosen.items() if _matters(key, row.system)]
    return ", ".join([SHORT[row.system], *which])


def _matters(key: str, system: System) -> bool:
    return not key.startswith("drafters.") or system not in {System.ALONE, System.COLOCATED, System.LOOKUPS}


def _chosen(study: Study, one: Configuration) -> Mapping[str, Value]:
    return {axis.key: one.settings[axis.key] for axis in study.axes if not axis.is_given and axis.key in one.settings}


def _apart(text: str) -> str:
    return f", {text}" if text else ""


def _place(canvas: Canvas, row: Row) -> tuple[float, float]:
    return canvas.x.at(row.tpot_ms.p50), canvas.y.at(row.dollars_per_million(MID))


def _steps(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """What no point of the front is better than: along, then down to the next."""
    found = list(points[:1])
    for x, y in points[1:]:
        found += [(x, found[-1][1]), (x, y)]
    return found
