"""The charts of one experiment: what they show, and the words around them."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence

from markupsafe import Markup

from paceline.experiments.report.axes import Axis, Value
from paceline.experiments.report.charts import (
    choices,
    cost_chart,
    cost_scales,
    goodput_chart,
    goodput_scales,
    on_front,
    tag,
)
from paceline.experiments.report.courses import courses, in_words
from paceline.experiments.report.markup import Content, element, folded, items, table, together
from paceline.experiments.report.sensitivity import MOST_LINES, ratio_chart, ratio_scale
from paceline.experiments.report.study import RIVALS, Configuration, Series, Study, spread
from paceline.experiments.report.winners import legend
from paceline.experiments.results import System
from paceline.experiments.specification import HIGH, LOW, MID, PRICES

MOST_CHARTS = 9
MOST_LINES_OPEN = 6
"""A longer table is folded."""
MOST_LETTERS = 11
"""Of a line's name beside it; lines with longer ones are named a, b, c."""


def made_how(study: Study) -> str:
    """By which instruments, of how many rows."""
    counts = Counter(row.instrument.value for row in study.results.rows)
    if len(counts) == 1:
        return next(iter(counts))
    return ", ".join(f"{name} ({count} rows)" for name, count in counts.items())


def caption(study: Study) -> str:
    """What every chart and table says of itself."""
    results = study.results
    priced = f"prices of {results.priced_on}" if results.priced_on else "prices without a date"
    how = made_how(study)
    return f"{how[0].upper()}{how[1:]}; {results.experiment.name}, seed {results.experiment.seed}, {priced}."


def source(study: Study) -> Markup:
    return element("p", caption(study), class_="source")


def framed(chart: Markup, *says: Content) -> Markup:
    told = [element("span", text) for text in says if text]
    return element("figure", element("figcaption", *told) if told else None, chart)


def cost_panel(study: Study) -> Markup:
    scales, scenarios = cost_scales(study), study.scenarios()
    given = [axis for axis in study.axes if axis.is_given]

    def chart(settings: Mapping[str, Value], these: Sequence[Configuration]) -> Markup:
        words = _front(study, these)
        return framed(
            cost_chart(study, these, scales, f"{study.words(settings)}: {words}"), study.words(settings), words
        )

    charts = [chart(dict(key), these) for key, these in scenarios.items()]
    text = (
        "Down and left is better. Filled marks, joined by steps, are the Pareto front at mid prices: nothing else "
        "is as quick and as cheap. Thin lines go from low to high prices; these rise together for all systems, so "
        "lines that overlap are no tie. A chart compares only what an operator can choose, load included."
    )
    return together([
        element("h3", "Dollars per million tokens against time per token"), element("p", text), legend(study.systems),
        *_shown(charts, _in_sight(given, [dict(key) for key in scenarios])), source(study),
    ])  # fmt: skip


def goodput_panel(study: Study) -> Markup:
    head = element("h3", "Goodput within the SLO, by load")
    loads = [axis for axis in study.axes if axis.is_load and axis.numbers]
    if not loads:
        return together([head, element("p", "Load was not varied here.")])
    text = "Tokens of requests that met the SLO, per second. A request that missed it counts for nothing."
    parts = [head, element("p", text), legend(study.systems)]
    for load in loads:
        scales, every = goodput_scales(study, load), study.series(load)
        charts = [
            framed(
                goodput_chart(
                    load, one.configurations, scales, f"Goodput by {load.label}, {study.words(one.settings)}"
                ),
                study.words(one.settings),
            )
            for one in every
        ]
        others = [axis for axis in study.axes if axis is not load]
        parts += _shown(charts, _in_sight(others, [one.settings for one in every]))
    return together([*parts, source(study)])


def sensitivity_panel(study: Study) -> Markup | None:
    axes, subject = [axis for axis in study.axes if axis.numbers], study.subject
    rivals = [rival for rival in RIVALS if rival in study.systems]
    if not axes or subject is None or not rivals:
        return None
    text = (
        f"Dollars per million tokens of {subject.value}, divided by a rival's: below 1 it is cheaper. Bands reach "
        "from low to high prices. Rings are where the answer flips. That is interpolated, on a straight line "
        "between the logarithms of the two neighbours that were run; it was not run itself."
    )
    lines = [
        (axis.label, study.words(one.settings) or "-", rival.value, in_words(axis, courses(one, subject, rival)))
        for axis in axes
        for one in study.series(axis)
        for rival in rivals
    ]
    whole = table(("along", "with", "over", f"{subject.value} is"), lines, caption(study), words=4)
    return together([
        element("h3", "What it depends on, and where the answer flips"), element("p", text),
        *(_along(study, axis, subject, rivals) for axis in axes), source(study),
        folded(f"All {len(lines)} comparisons", whole) if len(lines) > MOST_LINES_OPEN else whole,
    ])  # fmt: skip


def _along(study: Study, axis: Axis, subject: System, rivals: Sequence[System]) -> Markup:
    """One axis: the key of its lines, and a chart for each rival."""
    every = study.series(axis)
    chosen = [every[index] for index in spread(every, MOST_LINES)]
    tags = [_tag(study, one) for one in chosen]
    lettered = max(map(len, tags)) > MOST_LETTERS
    if lettered:
        tags = [chr(ord("a") + number) for number in range(len(chosen))]
    keys = [
        element(
            "span",
            f"{tag}: {study.words(one.settings)}" if lettered else study.words(one.settings),
            class_=f"key l-{number}",
        )
        for number, (tag, one) in enumerate(zip(tags, chosen, strict=True))
        if one.settings
    ]
    y = ratio_scale(every, subject, rivals)
    charts = [
        framed(ratio_chart(chosen, tags, subject, rival, y), f"{subject.value} over {rival.value}") for rival in rivals
    ]
    some = f" ({len(chosen)} of {len(every)} combinations are drawn)" if len(chosen) < len(every) else ""
    return together([
        element("h4", f"By {axis.label}{some}"), items(keys, "keys") if keys else None,
        element("div", *charts, class_="charts"),
    ])  # fmt: skip


def _tag(study: Study, one: Series) -> str:
    return ", ".join(axis.tag(one.settings[axis.key]) for axis in study.axes if axis.key in one.settings)


def _front(study: Study, these: Sequence[Configuration]) -> str:
    """The front at mid prices, and what it is at low and high ones if it is another."""
    every = choices(these)
    fronts = {price: [tag(study, *choice) for choice in on_front(every, price)] for price in PRICES}
    text = f"front: {' · '.join(fronts[MID]) or 'nothing'}"
    for price in (LOW, HIGH):
        if fronts[price] != fronts[MID]:
            text += f"; at {price} prices: {' · '.join(fronts[price])}"
    missed = sum(not math.isfinite(row.dollars_per_million(MID)) for _, row in every)
    return text + (f"; {missed} without a token within the SLO are not shown" if missed else "")


def _in_sight(axes: Sequence[Axis], every: Sequence[Mapping[str, Value]]) -> list[int]:
    """Which scenarios to show at once: of every axis some values, its first and last among them."""
    most = max([len(axis.values) for axis in axes], default=1)
    while most > 1 and math.prod(min(most, len(axis.values)) for axis in axes) > MOST_CHARTS:
        most -= 1
    kept = {
        axis.key: {axis.values[index] for index in (spread(axis.values, most) if most > 1 else [0])} for axis in axes
    }
    return [
        index
        for index, settings in enumerate(every)
        if all(value in kept[key] for key, value in settings.items() if key in kept)
    ][:MOST_CHARTS]


def _shown(charts: Sequence[Markup], in_sight: Iterable[int]) -> Iterator[Markup]:
    first = set(in_sight)
    yield element("div", *(chart for index, chart in enumerate(charts) if index in first), class_="charts")
    others = [chart for index, chart in enumerate(charts) if index not in first]
    if others:
        yield folded(f"{len(others)} more", element("div", *others, class_="charts"))
