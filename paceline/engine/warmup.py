"""The first forwards of a process are slow: they are run before anybody waits for them."""

from __future__ import annotations

from paceline.engine.batch import Rows
from paceline.engine.cache import ROOT
from paceline.engine.runner import ModelRunner

SHAPES = (1, 4, 8, 16)


def warm_up(runner: ModelRunner) -> None:
    """Runs a prefill and steps of a few sizes on a sequence that is thrown away."""
    sequence = runner.open(max_tail=max(SHAPES))
    try:
        runner.prefill(sequence, [0] * 16)
        sequence.reserve(16 + max(SHAPES))
        for rows in SHAPES:
            runner.forward([Rows(sequence, [0] * rows, [ROOT, *range(rows - 1)])])
            sequence.keep((), commit=0)
    finally:
        sequence.close()
