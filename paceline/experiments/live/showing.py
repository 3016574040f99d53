"""Rows as a table for a terminal, with whether they may be believed."""

from __future__ import annotations

import math
from collections.abc import Sequence

from rich.table import Table

from paceline.experiments.live.comparison import Pair
from paceline.experiments.results import Row, System
from paceline.experiments.specification import HIGH, LOW, MID

_NUMBERS = ("tokens/s", "goodput", "TTFT p50/p99 ms", "TPOT p50/p99 ms", "tokens/step", "$/M low / mid / high")


def table(name: str, rows: Sequence[Row]) -> Table:
    doubted = any("valid" in row.notes for row in rows)
    found = Table(title=f"{name}: {rows[0].instrument.value if rows else 'nothing'}")
    for column in ("configuration", "system"):
        found.add_column(column)
    for column in _NUMBERS:
        found.add_column(column, justify="right")
    if doubted:
        found.add_column("valid")
    for row in rows:
        last = [str(row.notes.get("valid", ""))] if doubted else []
        found.add_row(settings(row), row.system.value, *_figures(row), *last)
    return found


def result_line(rows: Sequence[Row]) -> str:
    """Sums and medians would hide too much: how many rows there are, how many are to be doubted, what was lost."""
    doubted = sum(row.notes.get("valid", "yes") != "yes" for row in rows)
    failed = sum(int(row.notes.get("failed", 0)) for row in rows)
    best = max((row.tokens_per_second for row in rows if row.system is System.TREES), default=math.nan)
    return f"RESULT rows={len(rows)} doubted={doubted} failed_requests={failed} best_trees_tokens_per_second={best:.1f}"


def comparison(name: str, pairs: Sequence[Pair]) -> Table:
    first, second = pairs[0].first.instrument.value, pairs[0].second.instrument.value
    found = Table(title=f"{name}: {second} against {first}, tokens/s")
    found.add_column("system and settings")
    for column in (first, second, "difference %"):
        found.add_column(column, justify="right")
    found.add_column("valid")
    for pair in pairs:
        speeds = [f"{row.tokens_per_second:.1f}" for row in (pair.first, pair.second)]
        found.add_row(pair.name, *speeds, f"{pair.percent:+.1f}", "yes" if pair.valid else "no")
    return found


def settings(row: Row) -> str:
    return ", ".join(f"{key.rpartition('.')[2]}={value}" for key, value in row.settings.items())


def _figures(row: Row) -> list[str]:
    dollars = [row.dollars_per_million(price) for price in (LOW, MID, HIGH)]
    return [
        f"{row.tokens_per_second:.1f}",
        f"{row.goodput:.1f}",
        f"{row.ttft_ms.p50:.0f} / {row.ttft_ms.p99:.0f}",
        f"{row.tpot_ms.p50:.2f} / {row.tpot_ms.p99:.2f}",
        f"{row.tokens_per_step:.2f}",
        " / ".join("-" if math.isinf(cost) else f"{cost:.2f}" for cost in dollars),
    ]
