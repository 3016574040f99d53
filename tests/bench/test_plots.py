"""The pictures of ``bench overlap``: one for each clock and temperature, in both formats."""

from __future__ import annotations

import itertools
from pathlib import Path

from paceline.bench.overlap.plots import FORMATS, plot
from paceline.bench.overlap.policies import POLICIES, TREE
from paceline.bench.report import Report

RIVALS = tuple(policy for policy in POLICIES if policy != "off")


def test_every_clock_and_temperature_is_drawn(tmp_path: Path) -> None:
    report = Report("overlap", {})
    cells = itertools.product((0.02, 0.04), (0.0, 0.5), (1, 4), (0.0, 0.8), POLICIES)
    for step, rtt, sessions, temperature, policy in cells:
        report.add(
            clock="virtual", step=step, rtt=rtt, sessions=sessions, temperature=temperature, policy=policy,
            tokens_per_second=(2.0 if policy == TREE else 1.0) / step,
        )  # fmt: skip
    paths = plot(report, RIVALS, tmp_path / "new")
    assert sorted(path.name for path in paths) == sorted(
        f"overlap-virtual-t{temperature}.{kind}" for temperature in ("0", "0.8") for kind in FORMATS
    )
    assert all(path.stat().st_size > 1000 for path in paths)
    drawn = (tmp_path / "new" / "overlap-virtual-t0.8.svg").read_text()
    assert drawn.count("<svg") == 1
