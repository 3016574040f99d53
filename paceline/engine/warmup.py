"""The first forwards of a process are slow: they are run before anybody waits for them, and then timed."""

from __future__ import annotations

import time
from collections.abc import Sequence as Seq

from paceline.engine.batch import Rows
from paceline.engine.cache import ROOT, Sequence
from paceline.engine.runner import ModelRunner
from paceline.speculation.cost import CostCurve

ROWS = (1, 2, 4, 8, 16, 32, 64)
SESSIONS = 8
CONTEXT = 16
TIMES = 5


def warm_up(runner: ModelRunner) -> CostCurve:
    """Runs steps of many sizes on sequences that are thrown away; returns what they cost.

    The smallest time of each counts: while a process starts, others do, too.
    """
    sequences = [runner.open(max_tail=max(ROWS)) for _ in range(SESSIONS)]
    try:
        for sequence in sequences:
            runner.prefill(sequence, [0] * CONTEXT)
            sequence.reserve(CONTEXT + SESSIONS)
        first = sequences[0]
        first.reserve(CONTEXT + max(ROWS))
        points = [(rows, _seconds(runner, [first], rows)) for rows in ROWS]
        one, many = dict(points)[SESSIONS], _seconds(runner, sequences, 1)
        return CostCurve.measured(points, per_session=(many - one) / (SESSIONS - 1))
    finally:
        for sequence in sequences:
            sequence.close()


def _seconds(runner: ModelRunner, sequences: Seq[Sequence], rows: int) -> float:
    """Of a step with so many rows in each sequence."""
    times = []
    for _ in range(TIMES):
        started = time.perf_counter()
        runner.forward([Rows(sequence, [0] * rows, [ROOT, *range(rows - 1)]) for sequence in sequences])
        times.append(time.perf_counter() - started)
        for sequence in sequences:
            sequence.keep((), commit=0)
    return min(times)
