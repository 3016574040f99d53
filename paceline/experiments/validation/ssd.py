"""SSD's published speeds, predicted.

A round in turn lasts ``t_T + K t_d``; with the outcome cache drafting is waited for only where the verdict was not
prepared for, so it lasts ``t_T + (1 - h) K t_d``, and tokens of a round are the same (Thm. 7 with ``E_hit = E_miss``
and drafting within the target's step)::

    cached = lockstep x (t_T + K t_d) / (t_T + (1 - h) K t_d)

*Inputs*: the speed in turn on the task; ``t_T``; ``t_d`` = 2.0 ms, which was not published and is inferred from these
very tables. *Fitted on the other tasks*: h. *Predicted*: the speed with the cache.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from paceline.experiments.closed_forms import outcome_cache_speedup
from paceline.experiments.tables import step_table
from paceline.experiments.validation.runs import SsdRun

DRAFT_MS = 2.0
"""Llama-3.2-1B on an H100, inferred."""
FITTED_ON = ("S1", "S2", "S3", "S4")
"""One row per task, of the paper's appendix."""
PREDICTED = (*FITTED_ON, "R1")
"""R1 is the repository's own run of a task of the appendix."""
BATCHES = ("R1", "R2", "R3", "R4", "R5")
TABLE = "llama-3.1-70b-h100-tp4"


@dataclass(frozen=True)
class SsdPrediction:
    """Tokens/s with the cache."""

    run: SsdRun
    hit: float
    tokens_per_second: float

    @property
    def error(self) -> float:
        return self.tokens_per_second / self.run.cached - 1


@dataclass(frozen=True)
class StepPrediction:
    """Milliseconds of a round of a batch, if each session misses by itself, one miss delays all, and the target's step
    goes by its table."""

    run: SsdRun
    milliseconds: float

    @property
    def error(self) -> float:
        return self.milliseconds / self.run.step_ms - 1


def predicted(runs: Sequence[SsdRun]) -> list[SsdPrediction]:
    """Each row by the other tasks."""
    fitting = [run for run in runs if run.id in FITTED_ON]
    predictions = []
    for run in runs:
        if run.id in PREDICTED:
            others = [other for other in fitting if _task(other) != _task(run)]
            hit = statistics.fmean(hit_rate(other) for other in others)
            predictions.append(SsdPrediction(run, hit, _speed(run, hit)))
    return predictions


def steps_predicted(runs: Sequence[SsdRun]) -> list[StepPrediction]:
    """Of the repository's batches, whose speed in turn is not published: ``V(B (K + 1)) + (1 - h^B) K t_d``."""
    curve = step_table(TABLE)
    hit = statistics.fmean(hit_rate(run) for run in runs if run.id in FITTED_ON)
    return [
        StepPrediction(
            run,
            run.target_ms * curve(run.batch * (run.window + 1)) / curve(1)
            + (1 - hit**run.batch) * run.window * DRAFT_MS,
        )
        for run in runs
        if run.id in BATCHES
    ]


def hit_rate(run: SsdRun) -> float:
    """How often the verdict was prepared for, if the model is right: solved from the two speeds."""
    drafting = run.window * DRAFT_MS
    waited = run.lockstep * (run.target_ms + drafting) / run.cached - run.target_ms
    return min(1.0, max(0.0, 1 - waited / drafting))


def _speed(run: SsdRun, hit: float) -> float:
    ratio = run.window * DRAFT_MS / run.target_ms
    tokens = run.lockstep * run.target_ms * (1 + ratio)
    return outcome_cache_speedup(hit, tokens, tokens, ratio, ratio) / run.target_ms


def _task(run: SsdRun) -> str:
    """Without what it says of the number of samples."""
    return run.task.split()[0]
