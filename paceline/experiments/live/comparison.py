"""Two instruments on the same configurations: how far apart their speeds are."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from paceline.errors import FailedPrecondition
from paceline.experiments.results import Row, System
from paceline.experiments.rows import Results
from paceline.speculation.fields import FieldError

WITHIN_PERCENT = 10.0
_COLORS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
"""Okabe and Ito's, told apart by everybody."""


@dataclass(frozen=True)
class Pair:
    """One system in one configuration, by two instruments; ``first`` is what the other one is held against."""

    first: Row
    second: Row

    @property
    def percent(self) -> float:
        """By how much the second is faster."""
        return 100 * (self.second.tokens_per_second / self.first.tokens_per_second - 1)

    @property
    def valid(self) -> bool:
        """Whether neither doubts itself."""
        return all(row.notes.get("valid", "yes") == "yes" for row in (self.first, self.second))

    @property
    def settings(self) -> str:
        return ", ".join(f"{key.rpartition('.')[2]}={value}" for key, value in self.first.settings.items())

    @property
    def name(self) -> str:
        return f"{self.first.system.value}{': ' if self.settings else ''}{self.settings}"


def pairs(first: Results, second: Results) -> list[Pair]:
    """What both have, in the first one's order. Raises ``FieldError`` if that is nothing, or for other experiments."""
    names = first.experiment.name, second.experiment.name
    if names[0] != names[1]:
        raise FieldError("results", names[1], f"results of the same experiment, {names[0]}")
    known = {_identity(row): row for row in second.rows}
    found = [Pair(row, known[_identity(row)]) for row in first.rows if _identity(row) in known]
    if not found:
        raise FieldError("results", names[1], "systems and settings in common")
    return [pair for pair in found if pair.first.tokens_per_second > 0]


def result_line(found: Sequence[Pair]) -> str:
    """Over pairs that neither instrument doubts; all of them beside it."""
    valid = [abs(pair.percent) for pair in found if pair.valid]
    every = [abs(pair.percent) for pair in found]
    return (
        f"RESULT pairs={len(found)} valid={len(valid)}"
        f" within_{WITHIN_PERCENT:.0f}_percent={sum(error <= WITHIN_PERCENT for error in valid)}"
        f" mean_percent={statistics.mean(valid) if valid else float('nan'):.2f}"
        f" worst_percent={max(valid, default=float('nan')):.2f}"
        f" worst_of_all_percent={max(every):.2f}"
    )


def plot(found: Sequence[Pair], file: Path) -> None:
    """Speeds against each other, and by how much they differ; hollow: doubted. Raises ``FailedPrecondition`` without
    matplotlib."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise FailedPrecondition("plots need matplotlib: pip install 'paceline[plots]'") from None
    ordered = sorted(found, key=lambda pair: list(System).index(pair.first.system))
    colors = dict(zip(dict.fromkeys(pair.first.system for pair in ordered), _COLORS, strict=False))
    figure = Figure(figsize=(9.2, max(4.4, 0.14 * len(ordered) + 1.2)), layout="constrained")
    speeds, errors = figure.subplots(1, 2)
    _speeds(speeds, ordered, colors)
    _errors(errors, ordered, colors)
    first, second = ordered[0].first.instrument.value, ordered[0].second.instrument.value
    speeds.set_xlabel(f"tokens/s, {first}")
    speeds.set_ylabel(f"tokens/s, {second}")
    errors.set_xlabel(f"{second} over {first}, %")
    figure.savefig(file, metadata={"Date": None} if file.suffix == ".svg" else None)


def _speeds(axes: Any, found: Sequence[Pair], colors: Mapping[System, str]) -> None:
    most = 1.08 * max(max(pair.first.tokens_per_second, pair.second.tokens_per_second) for pair in found)
    band = WITHIN_PERCENT / 100
    axes.fill_between([0, most], [0, most * (1 - band)], [0, most * (1 + band)], color="#eeeeee", linewidth=0)
    axes.plot([0, most], [0, most], color="#888888", linewidth=0.8)
    for pair in found:
        _dot(axes, pair.first.tokens_per_second, pair.second.tokens_per_second, pair, colors)
    for system, color in colors.items():
        axes.plot([], [], "o", color=color, label=system.value, markersize=5)
    if not all(pair.valid for pair in found):
        axes.plot([], [], "o", color="#444444", markerfacecolor="none", label="doubted", markersize=5)
    axes.set_xlim(0, most)
    axes.set_ylim(0, most)
    axes.set_aspect("equal")
    axes.legend(fontsize=8, frameon=False, loc="lower right")
    axes.spines[["top", "right"]].set_visible(False)


def _errors(axes: Any, found: Sequence[Pair], colors: Mapping[System, str]) -> None:
    places = range(len(found) - 1, -1, -1)
    axes.axvspan(-WITHIN_PERCENT, WITHIN_PERCENT, color="#eeeeee", linewidth=0)
    axes.axvline(0, color="#888888", linewidth=0.8)
    for place, pair in zip(places, found, strict=True):
        _dot(axes, pair.percent, place, pair, colors)
    axes.set_yticks(list(places), [pair.settings or pair.first.system.value for pair in found], fontsize=6.5)
    axes.spines[["top", "right"]].set_visible(False)


def _dot(axes: Any, x: float, y: float, pair: Pair, colors: Mapping[System, str]) -> None:
    color = colors[pair.first.system]
    axes.plot(x, y, "o", color=color, markerfacecolor=color if pair.valid else "none", markersize=5)


def _identity(row: Row) -> tuple[str, tuple[tuple[str, object], ...]]:
    return row.system.value, tuple(sorted(row.settings.items()))
