"""nano-PEARL's published speeds, predicted.

A batch of nano-PEARL's benchmark is its prompts, then ``ROUNDS`` rounds; of the target alone its prompts, then
``ALONE_STEPS`` steps. So for ``batch`` sessions, with ``rows`` the target's rows of a mean round::

    tokens/s = batch x pearl_tokens / round
    round    = decode x V(rows) / V(batch) + per_row x (rows - batch) + batch x prompt / ROUNDS
    decode   = alone - batch x prompt / ALONE_STEPS

*Inputs*: acceptance, from the run's own mean accepted tokens; the speed of the target alone on the task, by batch, as
published, and from it ``prompt``, what a prompt of the task takes. *From tables*: V, the step by its rows. *Fitted on
the other tasks*: the window of a pair, one for all batches (nano-PEARL sets it once, and does not print it), and
``per_row``, one per target: what the engine does for each row beyond the step itself. *Predicted*: the rest.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from paceline.experiments.closed_forms import pearl_rows, pearl_tokens
from paceline.experiments.tables import step_table, table_of
from paceline.experiments.validation.runs import PearlRun
from paceline.speculation.cost import CostCurve

ALONE_STEPS, ROUNDS = 200, 100
"""Of a batch, in nano-PEARL's benchmark."""
WINDOWS = range(1, 25)
PER_ROW_MS = tuple(0.01 * step for step in range(16))
GATED, UNGATED = "H200", "L40S"
TENSOR_PARALLEL = {GATED: 2, UNGATED: 4}
BORROWED = "llama-3.1-70b-l40s-tp4"
"""Whose curve stands for targets that have no table of their own on a card."""


@dataclass(frozen=True)
class Prediction:
    """Tokens/s of a run. ``closed_form`` is the formula alone: a round is a step of the target alone."""

    run: PearlRun
    window: int
    per_row_ms: float
    tokens_per_second: float
    closed_form: float

    @property
    def error(self) -> float:
        return self.tokens_per_second / self.run.pearl - 1

    @property
    def closed_form_error(self) -> float:
        return self.closed_form / self.run.pearl - 1


@dataclass(frozen=True)
class Verification:
    """What is known of a target without any run that drafts: its curve, and what a prompt of a task takes, in ms."""

    curve: CostCurve
    prompt_ms: dict[str, float]

    @classmethod
    def of(cls, runs: Sequence[PearlRun], curve: CostCurve) -> Verification:
        """From the speeds of the target alone: what its step grows by the batch, beyond its curve, are prompts."""
        tasks = {run.task for run in runs}
        return cls(curve, {task: _prompt_ms([run for run in runs if run.task == task], curve) for task in tasks})

    def tokens_per_second(self, run: PearlRun, window: int, per_row_ms: float) -> float:
        rows = run.batch * pearl_rows(run.alpha, window)
        prompts = run.batch * self.prompt_ms[run.task]
        decode = run.alone_ms - prompts / ALONE_STEPS
        step = decode * self.curve(round(rows)) / self.curve(run.batch)
        return _speed(run, window, step + per_row_ms * (rows - run.batch) + prompts / ROUNDS)


def predicted(runs: Iterable[PearlRun], card: str = GATED) -> list[Prediction]:
    """Each run on a card by all tasks but its own."""
    these = [run for run in runs if run.card == card]
    targets = {target: [run for run in these if run.target == target] for target in {run.target for run in these}}
    known = {target: Verification.of(of_target, _curve(target, card)) for target, of_target in targets.items()}
    fits = {
        (target, task): _fit([run for run in of_target if run.task != task], known[target])
        for target, of_target in targets.items()
        for task in {run.task for run in of_target}
    }
    predictions = []
    for run in these:
        windows, per_row = fits[run.target, run.task]
        speed = known[run.target].tokens_per_second(run, windows[run.draft], per_row)
        predictions.append(Prediction(run, windows[run.draft], per_row, speed, closed_form(run, these)[1]))
    return predictions


def closed_form(run: PearlRun, runs: Iterable[PearlRun]) -> tuple[int, float]:
    """A window and a speed by the formula alone, the window fitted on the pair's other tasks at the run's batch."""
    others = [other for other in runs if (other.pair, other.batch) == (run.pair, run.batch) and other.task != run.task]
    window = _best_window(others, lambda other, window: _speed(other, window, other.alone_ms))
    return window, _speed(run, window, run.alone_ms)


def _curve(target: str, card: str) -> CostCurve:
    return step_table(table_of(target, card, TENSOR_PARALLEL[card]) or BORROWED)


def _prompt_ms(runs: Sequence[PearlRun], curve: CostCurve) -> float:
    """The slope over the batch of what the step of the target alone takes beyond its curve (least squares)."""
    batches = sorted({run.batch for run in runs})
    alone = {batch: statistics.fmean(run.alone_ms for run in runs if run.batch == batch) for batch in batches}
    first = batches[0]
    beyond = {batch: alone[batch] - alone[first] * curve(batch) / curve(first) for batch in batches}
    slope = sum((batch - first) * beyond[batch] for batch in batches) / sum((batch - first) ** 2 for batch in batches)
    return max(0.0, slope) * ALONE_STEPS


def _fit(runs: Sequence[PearlRun], known: Verification) -> tuple[dict[str, int], float]:
    """Windows by draft, and what a row takes, that fit runs of one target best."""
    pairs = {draft: [run for run in runs if run.draft == draft] for draft in {run.draft for run in runs}}
    fits = []
    for per_row in PER_ROW_MS:

        def speed(run: PearlRun, window: int, per_row: float = per_row) -> float:
            return known.tokens_per_second(run, window, per_row)

        windows = {draft: _best_window(pair, speed) for draft, pair in pairs.items()}
        fits.append((_misfit(runs, speed, windows), per_row, windows))
    _, per_row, windows = min(fits, key=lambda fit: fit[:2])
    return windows, per_row


Speed = Callable[[PearlRun, int], float]


def _best_window(runs: Sequence[PearlRun], speed: Speed) -> int:
    return min(WINDOWS, key=lambda window: _misfit(runs, speed, {run.draft: window for run in runs}))


def _misfit(runs: Sequence[PearlRun], speed: Speed, windows: dict[str, int]) -> float:
    """Mean relative error."""
    return statistics.fmean(abs(speed(run, windows[run.draft]) / run.pearl - 1) for run in runs)


def _speed(run: PearlRun, window: int, round_ms: float) -> float:
    return 1e3 * run.batch * pearl_tokens(run.alpha, window) / round_ms
