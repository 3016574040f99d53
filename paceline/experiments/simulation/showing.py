"""A short table of rows, and one line that says what they amount to."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence

from rich.table import Table

from paceline.experiments.results import Row, System
from paceline.experiments.specification import HIGH, LOW, MID

MOST = 60
"""Rows shown; of more the medians of each system."""


def table(name: str, rows: Sequence[Row]) -> Table:
    shown, few = rows, len(rows) <= MOST
    found = Table(title=f"{name}: {'simulated' if few else f'medians of {len(rows)} simulated rows'}")
    if few:
        found.add_column("configuration")
    for column in ("system", "tokens/s", "goodput", "TTFT p50 ms", "TPOT p50 ms", "tokens/step", "$/h", "$/M tokens"):
        found.add_column(column, justify="left" if column == "system" else "right")
    if few:
        for row in shown:
            found.add_row(_settings(row.settings), row.system.value, *_figures([row]))
    else:
        for system in System:
            found.add_row(system.value, *_figures([row for row in rows if row.system is system]))
    return found


def result_line(rows: Sequence[Row]) -> str:
    """Medians over configurations of our trees' dollars for a million tokens over those of others: below 1 they are
    cheaper. ``cheapest``: in how many of them they are cheaper than all."""
    by_configuration: dict[str, dict[System, Row]] = {}
    for row in rows:
        by_configuration.setdefault(_settings(row.settings), {})[row.system] = row
    costs = [
        {system: row.dollars_per_million(MID) for system, row in systems.items()}
        for systems in by_configuration.values()
    ]
    wins = sum(cost[System.TREES] <= min(cost.values()) < math.inf for cost in costs)
    ratios = {
        name: _median([cost[System.TREES] / cost[system] for cost in costs if cost[system] < math.inf])
        for name, system in (
            ("trees_vs_alone", System.ALONE),
            ("trees_vs_colocated", System.COLOCATED),
            ("trees_vs_pearl", System.PEARL),
            ("trees_vs_outcomes", System.OUTCOMES),
        )
    }
    words = " ".join(f"{name}={ratio:.3f}" for name, ratio in ratios.items())
    return f"RESULT configurations={len(by_configuration)} rows={len(rows)} {words} cheapest={wins}"


def _settings(settings: Mapping[str, object]) -> str:
    return ", ".join(f"{key.rpartition('.')[2]}={value}" for key, value in settings.items())


def _figures(rows: Sequence[Row]) -> list[str]:
    return [
        f"{_median([row.tokens_per_second for row in rows]):.1f}",
        f"{_median([row.goodput for row in rows]):.1f}",
        f"{_median([row.ttft_ms.p50 for row in rows]):.0f}",
        f"{_median([row.tpot_ms.p50 for row in rows]):.2f}",
        f"{_median([row.tokens_per_step for row in rows]):.2f}",
        f"{_median([row.dollars_per_hour[MID] for row in rows]):.2f}",
        " / ".join(_dollars(_median([row.dollars_per_million(price) for row in rows])) for price in (LOW, MID, HIGH)),
    ]


def _dollars(amount: float) -> str:
    return "-" if math.isinf(amount) else f"{amount:.2f}"


def _median(values: Sequence[float]) -> float:
    return statistics.median(values) if values else math.nan
