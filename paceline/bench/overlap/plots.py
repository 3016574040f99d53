"""Pictures of ``bench overlap``: speed against round trip, one panel for each step time and number of sessions."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from paceline.bench.report import Report, Row
from paceline.errors import FailedPrecondition

FORMATS = ("svg", "png")
BASELINE = "off"
_PANEL_INCHES = (3.4, 2.9)
_COLORS = ("#0072b2", "#56b4e9", "#e69f00", "#d55e00")
"""Okabe and Ito's, told apart by everybody; the last policy, ours, stands out."""


def require_matplotlib() -> None:
    """Raises ``FailedPrecondition`` before anything has been measured in vain."""
    try:
        import matplotlib  # noqa: F401 - an extra
    except ImportError:
        raise FailedPrecondition("plots need matplotlib: pip install 'paceline[plots]'") from None


def plot(report: Report, policies: Sequence[str], directory: Path) -> list[Path]:
    """One figure for each clock and temperature, as SVG and PNG; the paths written."""
    directory.mkdir(parents=True, exist_ok=True)
    keys = sorted({(row["clock"], row["temperature"]) for row in report.rows})
    return [
        path
        for clock, temperature in keys
        for path in _figure(
            report.select(clock=clock, temperature=temperature), clock, temperature, policies, directory
        )
    ]


def _figure(
    rows: list[Row], clock: str, temperature: float, policies: Sequence[str], directory: Path
) -> Iterator[Path]:
    from matplotlib.figure import Figure

    steps, crowds = _values(rows, "step"), _values(rows, "sessions")
    size = (_PANEL_INCHES[0] * len(steps) + 0.8, _PANEL_INCHES[1] * len(crowds) + 1.0)
    figure = Figure(figsize=size, layout="constrained")
    panels = figure.subplots(len(crowds), len(steps), squeeze=False, sharex=True)
    for line, sessions in zip(panels, crowds, strict=True):
        for axes, step in zip(line, steps, strict=True):
            _panel(axes, [row for row in rows if row["step"] == step and row["sessions"] == sessions], policies)
            axes.set_title(f"step {step * 1e3:.0f} ms, {sessions} session{'s' if sessions > 1 else ''}", fontsize=9)
    for axes in panels[-1]:
        axes.set_xlabel("round trip, in steps", fontsize=9)
    figure.supylabel("tokens/s, times the target alone", fontsize=9)
    handles, labels = panels[0][0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(policies), fontsize=8, frameon=False)
    drafted = "greedy" if temperature == 0 else f"temperature {temperature:g}"
    figure.suptitle(f"{clock} time, {drafted}; each policy with its best lengths", fontsize=10)
    for kind in FORMATS:
        path = directory / f"overlap-{clock}-t{temperature:g}.{kind}"
        figure.savefig(path, dpi=130)
        yield path


def _panel(axes: Any, rows: list[Row], policies: Sequence[str]) -> None:
    shares = _values(rows, "rtt")
    alone = {share: _best(rows, BASELINE, share) for share in shares}
    for policy, color in zip(policies, _COLORS, strict=True):
        speeds = [_best(rows, policy, share) / alone[share] for share in shares]
        axes.plot(shares, speeds, marker="o", markersize=3.5, linewidth=1.6, color=color, label=policy)
    axes.axhline(1.0, color="#888888", linewidth=0.8, linestyle="--")
    axes.set_ylim(bottom=0)
    axes.set_xticks(shares, [f"{share:g}" for share in shares])
    axes.tick_params(labelsize=8)
    axes.spines[["top", "right"]].set_visible(False)


def _best(rows: list[Row], policy: str, share: float) -> float:
    found = [row["tokens_per_second"] for row in rows if row["policy"] == policy and row["rtt"] == share]
    return max(found, default=float("nan"))


def _values(rows: list[Row], name: str) -> list[Any]:
    return sorted({row[name] for row in rows})
