"""The published runs, as ``data/`` has them."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

from paceline.experiments.tables import DATA


@dataclass(frozen=True)
class PearlRun:
    """A row of nano-PEARL's tables: one task, tokens/s of the whole batch, of the target alone and with the drafter."""

    card: str
    draft: str
    target: str
    task: str
    batch: int
    mat: float
    """Mean tokens between two rejections, of this very run: acceptance is an input, not a prediction."""
    alone: float
    pearl: float

    @property
    def alpha(self) -> float:
        return 1 - 1 / self.mat

    @property
    def alone_ms(self) -> float:
        """Of a step of the target alone, prompts' share included."""
        return 1e3 * self.batch / self.alone

    @property
    def pair(self) -> tuple[str, str, str]:
        return self.card, self.draft, self.target


@dataclass(frozen=True)
class SsdRun:
    """A row of SSD's tables: tokens/s in turn (``lockstep``) and with the outcome cache; 0: not published."""

    id: str
    target: str
    draft: str
    task: str
    batch: int
    window: int
    target_ms: float
    draft_ms: float
    lockstep: float
    cached: float
    step_ms: float


def pearl_runs(file: Path = DATA / "validation_pearl.csv") -> list[PearlRun]:
    return [
        PearlRun(
            row["hw"].upper(),
            row["draft"],
            row["target"],
            row["task"],
            int(row["batch"]),
            float(row["mat"]),
            float(row["ar_tok_s_measured"]),
            float(row["pearl_tok_s_measured"]),
        )
        for row in _rows(file)
    ]


def ssd_runs(file: Path = DATA / "validation_ssd.csv") -> list[SsdRun]:
    def number(text: str) -> float:
        return float(text) if text else 0.0

    return [
        SsdRun(
            row["id"],
            row["target"],
            row["draft"],
            row["task"],
            int(row["batch"]),
            int(number(row["K"])),
            number(row["t_target_ms"]),
            number(row["t_draft_step_ms"]),
            number(row["sd_tok_s"]),
            number(row["ssd_tok_s"]),
            number(row["ssd_step_ms"]),
        )
        for row in _rows(file)
    ]


def _rows(file: Path) -> list[dict[str, str]]:
    with file.open(encoding="utf-8", newline="") as lines:
        return list(csv.DictReader(lines))
