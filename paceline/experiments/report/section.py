"""One experiment's part of the page: what was asked, and what came of it."""

from __future__ import annotations

from collections.abc import Callable

from markupsafe import Markup

from paceline.experiments.report.break_even import BreakEven, break_evens
from paceline.experiments.report.markup import Content, dollars, element, figure, folded, items, table, together
from paceline.experiments.report.panels import (
    caption,
    cost_panel,
    framed,
    goodput_panel,
    made_how,
    sensitivity_panel,
    source,
)
from paceline.experiments.report.prices import price_chart
from paceline.experiments.report.saying import CHOICES, cheapest_of_all
from paceline.experiments.report.study import RIVALS, Study, target_words
from paceline.experiments.report.winners import legend, winners
from paceline.experiments.results import Row
from paceline.experiments.specification import PRICES, DrafterSpec


def section(study: Study, number: int) -> Markup:
    parts = (_about, _winners, cost_panel, goodput_panel, sensitivity_panel, _prices, _rows)
    return element("section", *(part(study) for part in parts), id=f"experiment-{number}")


def _about(study: Study) -> Markup:
    experiment = study.results.experiment
    slo, work, net = experiment.slo, experiment.workload, experiment.network
    load = f"{work.requests_per_second:g} requests/s" if work.requests_per_second else f"{work.sessions} at a time"
    varied = [f"{axis.label}: {', '.join(map(axis.short, axis.values))}" for axis in study.axes]
    replicas = f", {experiment.target.replicas} times" if experiment.target.replicas > 1 else ""
    lengths = f"{work.prompt_tokens} + {work.output_tokens} tokens, {work.lengths}"
    facts = [
        ("How", made_how(study)),
        ("Target", f"{target_words(experiment)}{replicas}"),
        ("Drafters", "; ".join(_pool(name, pool) for name, pool in experiment.drafters.items()) or "none"),
        ("Network", f"round trip {net.round_trip_ms:g} ms, {net.bandwidth_mbps:g} Mbit/s"),
        ("Workload", f"{work.requests} requests, {load}, {lengths}"),
        ("SLO", f"first token within {slo.ttft_ms:g} ms, then {slo.tpot_ms:g} ms a token"),
        ("Varied", "; ".join(varied) or "nothing"),
        ("Seed", str(experiment.seed)),
        ("Prices of", study.results.priced_on or "no date"),
    ]
    listed = [together([element("dt", name), element("dd", text)]) for name, text in facts]
    return together([
        element("h2", experiment.name, " ", element("small", made_how(study))),
        element("p", experiment.about) if experiment.about else None,
        element("dl", *listed),
        _inputs(study),
    ])  # fmt: skip


def _pool(name: str, pool: DrafterSpec) -> str:
    place = "the target's card" if pool.colocated else f"{pool.replicas} × {pool.card}"
    return f"{name}: {' '.join(filter(None, (pool.kind, pool.model)))} on {place}"


def _inputs(study: Study) -> Markup | None:
    """What went in, and what was assumed."""
    known = [f"{name}: {kind}" for name, kind in study.results.figures.items()]
    assumed = dict.fromkeys(
        f"{row.system.value}, {key}: {text}"
        for row in study.results.rows
        for key, text in row.notes.items()
        if isinstance(text, str)
    )
    if not (known or assumed):
        return None
    planned = sum("planning" in kind for kind in study.results.figures.values())
    summary = f"What it rests upon: {len(known)} tables and profiles, {planned} of them with planning values"
    return folded(summary, items([*known, *assumed]))


def _winners(study: Study) -> Markup:
    if not study.axes:
        return cheapest_of_all(study)
    says = (
        "Each cell: the system with the cheapest million tokens at mid prices, and its dollars at low / mid / high "
        f"ones. {caption(study)}"
    )
    head = element("h3", "Who is cheapest")
    return together(
        [head, cheapest_of_all(study), legend(study.systems), winners(study), element("p", says, class_="source")]
    )


def _prices(study: Study) -> Markup | None:
    every = [one for rival in RIVALS for one in break_evens(study, rival)]
    if not every:
        return None
    text = (
        "Bars: what a card costs, low to high, mid marked. Marks below them: what it might cost in each "
        "configuration to be as dear per token as a rival, with the target at its mid price; thin lines from its "
        "low to its high one. Right of the bar the card is worth its price, left of it not; left of the axis it is "
        "not worth it even as a gift."
    )
    whole = table(
        ("card", "drafts for", "with", "against", "costs, $/h", "break-even, $/h", "worth it"),
        [_price_line(study, one) for one in every],
        f"At low / mid / high prices, of target and drafter alike. {caption(study)}",
        words=4,
    )
    chart = element("div", framed(price_chart(study, every, "Break-even prices by card")), class_="charts one")
    return together([
        element("h3", "Break-even price of a drafter's card"), element("p", text),
        legend([rival for rival in RIVALS if rival in study.systems]), chart, source(study),
        folded(f"All {len(every)} break-even prices", whole),
    ])  # fmt: skip


def _price_line(study: Study, one: BreakEven) -> list[Content]:
    worth = [price for price in PRICES if one.worth(price)]
    partly = f"at {', '.join(worth)} prices only" if worth else "no"
    return [
        one.card,
        one.system.value,
        study.words(one.configuration.settings),
        CHOICES[one.rival],
        _three(one.price.__getitem__),
        _three(one.at.__getitem__),
        "at all prices" if len(worth) == len(PRICES) else partly,
    ]


def _rows(study: Study) -> Markup:
    columns = (
        "system", "with", "how", "tokens/s", "goodput", "TTFT p50 / p90, ms", "TPOT p50 / p90, ms", "tokens/step",
        "$/h", "$/M tokens",
    )  # fmt: skip
    lines = [_row(study, row) for row in study.results.rows]
    whole = table(columns, lines, f"Dollars at low / mid / high prices. {caption(study)}", words=3)
    return folded(f"All {len(lines)} rows", whole)


def _row(study: Study, row: Row) -> list[Content]:
    return [
        row.system.value,
        study.words(row.settings),
        row.instrument.value,
        figure(row.tokens_per_second),
        figure(row.goodput),
        f"{figure(row.ttft_ms.p50)} / {figure(row.ttft_ms.p90)}",
        f"{figure(row.tpot_ms.p50)} / {figure(row.tpot_ms.p90)}",
        figure(row.tokens_per_step),
        _three(row.dollars_per_hour.__getitem__),
        _three(row.dollars_per_million),
    ]


def _three(amount: Callable[[str], float]) -> str:
    return " / ".join(dollars(amount(price)) for price in PRICES)
