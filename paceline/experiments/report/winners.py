"""Tables of who has the cheapest tokens: one cell for each configuration."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from markupsafe import Markup

from paceline.experiments.report.axes import Axis, Value
from paceline.experiments.report.canvas import mark
from paceline.experiments.report.markup import Content, dollars, element, items, table, together
from paceline.experiments.report.study import SHORT, Configuration, Study
from paceline.experiments.results import System
from paceline.experiments.specification import HIGH, LOW


def winners(study: Study) -> Markup:
    """The axis with most values goes across, the next down, and the others make tables of their own."""
    across, *others = sorted(study.axes, key=lambda axis: -len(axis.values))
    down, rest = (others[0], others[1:]) if others else (None, [])
    groups: dict[tuple[Value, ...], list[Configuration]] = {}
    for one in study.configurations:
        groups.setdefault(tuple(one.settings[axis.key] for axis in rest), []).append(one)
    tables = [
        _table(across, down, these, ", ".join(axis.text(value) for axis, value in zip(rest, values, strict=True)))
        for values, these in groups.items()
    ]
    return element("div", *tables, class_="tables")


def legend(systems: Sequence[System]) -> Markup:
    return items([together([chip(system), f" {system.value}"]) for system in systems], "legend")


def chip(system: System) -> Markup:
    return element("svg", mark(system, 8, 8, size=5), viewBox="0 0 16 16", class_="chip", aria_hidden="true")


def _table(across: Axis, down: Axis | None, these: Sequence[Configuration], which: str) -> Markup:
    by_place: Mapping[tuple[Value, Value], Configuration] = {
        (one.settings[down.key] if down else "", one.settings[across.key]): one for one in these
    }
    values = [value for value in across.values if any(place == value for _, place in by_place)]
    lines: list[list[Content]] = []
    for row in down.values if down else ("",):
        cells = [_cell(by_place[row, value]) if (row, value) in by_place else Markup("") for value in values]
        lines.append([down.short(row) if down else "cheapest", *cells])
    corner = (
        together(
            [element("span", f"{down.title} ↓", class_="line"), element("span", f"{across.title} →", class_="line")]
        )
        if down
        else f"{across.title} →"
    )
    head = element("h4", which) if which else None
    shorts = [across.short(value) for value in values]
    return element("div", head, table([corner, *shorts], lines, words=len(values) + 1))


def _cell(one: Configuration) -> Markup:
    best = one.cheapest()
    if best is None:
        return element("span", "none within the SLO", class_="muted")
    title = ", ".join(f"{system.value} {dollars(one.cost(system))}" for system in one.rows)
    others = [f"{price}: {SHORT[found]}" for price in (LOW, HIGH) if (found := one.cheapest(price)) not in {best, None}]
    return element(
        "span",
        element("span", chip(best), f" {SHORT[best]}", title=title),
        element("span", dollars(one.cost(best))),
        element("small", f"{dollars(one.cost(best, LOW))} to {dollars(one.cost(best, HIGH))}"),
        *(element("small", text) for text in others),
        class_="cell",
    )
