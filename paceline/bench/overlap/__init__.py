"""``bench overlap``: four policies over a grid of clusters, in virtual time and, with ``--real``, six cells for real.

Draft forwards take 4 ms; the target's step, the round trip as a share of it, and the sessions vary. The rivals' chain
and tree lengths are tuned in every cell.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from rich.progress import track

from paceline.bench.overlap.plots import plot, require_matplotlib
from paceline.bench.overlap.policies import BASELINES, TREE
from paceline.bench.overlap.real_cells import measure_real
from paceline.bench.overlap.results import HEADLINE, results, show
from paceline.bench.overlap.virtual_cells import DRAFT_SECONDS, SEED, Cell, VirtualCells
from paceline.bench.report import Report
from paceline.process import run_async
from paceline.settings import setting

STEPS, RTT_SHARES, SESSIONS, TEMPERATURES = (0.02, 0.04, 0.08), (0.0, 0.25, 0.5, 1.0), (1, 4, 16), (0.0, HEADLINE)


@dataclass(frozen=True)
class OverlapBench:
    """Overlapped trees against their rivals, by step time, round trip and number of sessions."""

    max_tokens: int = setting("tokens per text", 96)
    real: bool = setting("six cells for real, too: a quarter of an hour", False)
    quick: bool = setting("one session, temperature 0.8, four cells of the grid, a minute or two", False)
    json: Path | None = setting("also write every row to this file", None)
    plots: Path | None = setting("also draw it, as SVG and PNG in this directory", None)


def run(bench: OverlapBench) -> None:
    torch.set_num_threads(1)
    if bench.plots:
        require_matplotlib()
    report = Report("overlap", {**asdict(bench), "draft_seconds": DRAFT_SECONDS, "seed": SEED})
    for name in ("json", "plots"):
        report.parameters.pop(name)
    cells, virtual = _cells(quick=bench.quick), VirtualCells(bench.max_tokens)
    for cell in track(cells, description="virtual", console=report.console, transient=True):
        virtual.measure(cell, report)
    slowed = virtual.slowed_vs_off(cell for cell in cells if cell.sessions == 1 and cell.temperature == HEADLINE)
    if bench.real:
        run_async(measure_real(report, TEMPERATURES, bench.max_tokens))
    for clock in ("virtual", "real"):
        show(report, clock)
    for path in plot(report, (*BASELINES, TREE), bench.plots) if bench.plots else ():
        report.console.print(f"drew {path}")
    clock = "real" if bench.real else "virtual"
    report.finish(bench.json, **results(report, clock), slowed_vs_off=slowed)


def _cells(*, quick: bool) -> Sequence[Cell]:
    if quick:
        return [Cell(step, share, 1, HEADLINE) for step in (0.02, 0.04) for share in (0.0, 0.5)]
    return [Cell(*place) for place in itertools.product(STEPS, RTT_SHARES, SESSIONS, TEMPERATURES)]
