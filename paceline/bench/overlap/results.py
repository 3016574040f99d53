"""What the cells amount to."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

from paceline.bench.overlap.policies import BASELINES, CHAIN, LOCKSTEP_CHAIN, LOCKSTEP_TREE, POLICIES, TREE
from paceline.bench.report import Report, Row

HEADLINE = 0.8
"""Temperature of the figures in the last line."""


def _best(report: Report, policy: str, **cell: object) -> float:
    """Tokens per second of a policy with its best option; NaN where it has not run."""
    found = [row["tokens_per_second"] for row in report.select(policy=policy, **cell)]
    return max(found, default=float("nan"))


def _cells(report: Report, clock: str) -> list[Row]:
    names = ("clock", "step", "rtt", "sessions", "temperature")
    return list(
        {tuple(row[n] for n in names): {n: row[n] for n in names} for row in report.select(clock=clock)}.values()
    )


def results(report: Report, clock: str) -> dict[str, float]:
    """Valid cells; the first four for one session, temperature 0.8, 20 and 40 ms, and but the fourth no round trip."""
    cells = [cell for cell in _cells(report, clock) if all(row["valid"] for row in report.select(**cell))]
    single = [cell for cell in cells if cell["sessions"] == 1 and cell["temperature"] == HEADLINE]
    near = [cell for cell in single if cell["rtt"] == 0 and cell["step"] <= 0.04]

    def over(policy: str) -> float:
        return _mean([_best(report, TREE, **cell) / _best(report, policy, **cell) for cell in near])

    halves = [(_best(report, TREE, **{**cell, "rtt": 0.5}), _best(report, TREE, **cell)) for cell in near]
    worst = [
        _best(report, TREE, **cell) / max(_best(report, policy, **cell) for policy in (*BASELINES, "off"))
        for cell in cells
    ]
    return {
        "tree_vs_lockstep_chain": over(LOCKSTEP_CHAIN),
        "tree_vs_overlapped_chain": over(CHAIN),
        "tree_vs_lockstep_tree": over(LOCKSTEP_TREE),
        "kept_at_half_rtt": _mean([half / whole for half, whole in halves]),
        "worst_vs_best_baseline": min(worst, default=float("nan")),
    }


def _mean(values: Sequence[float]) -> float:
    return statistics.mean(values) if values else float("nan")


def show(report: Report, clock: str) -> None:
    lines = []
    for cell in _cells(report, clock):
        speeds = {policy: _best(report, policy, **cell) for policy in POLICIES}
        best = max(speeds[policy] for policy in BASELINES)
        (tree,) = report.select(policy=TREE, **cell)
        lines.append(
            [
                f"{cell['step'] * 1e3:.0f} ms", f"{cell['rtt']:g}", str(cell["sessions"]), f"{cell['temperature']:g}",
                *(f"{speed:.1f}" for speed in speeds.values()), f"{speeds[TREE] / best:.2f}",
                f"{tree['mean_accepted_length']:.2f}", f"{tree['wait'] * 1e3:.1f}", "" if tree["valid"] else "late",
            ]
        )  # fmt: skip
    if lines:
        columns = ("step", "RTT", "sessions", "temp.", *POLICIES, "tree / best", "τ", "wait ms", "")
        report.table(f"{clock} time: tokens/s, each policy with its best option", columns, lines)
