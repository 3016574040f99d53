"""``paceline experiment validate``: predicted beside published, and how far apart they are."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence

from paceline.bench.report import Report
from paceline.experiments.closed_forms import remote_break_even_ms
from paceline.experiments.validation import pearl, ssd
from paceline.experiments.validation.pearl import Prediction
from paceline.experiments.validation.runs import pearl_runs, ssd_runs

BIASED = "CNNDM"
"""The task of long prompts, which the formula alone predicts too fast in batches."""
BREAK_EVEN_TARGETS_MS = (100, 50, 30, 20)
BREAK_EVEN_ALPHAS = (0.5, 0.7, 0.85, 0.9)
BREAK_EVEN_DRAFT_MS, BREAK_EVEN_WINDOW = 10, 5
SAID = """\
nano-PEARL, two H200 and one for the drafter. Input: acceptance, from the run's own mean accepted tokens; the target
alone on the task. From tables: the target's step by rows. Fitted on the pair's other three tasks: the window, and what
a row costs beyond its step. Predicted: tokens/s. The shape of the model was chosen with all rows in sight; its figures
were fitted without the task that they are scored on.
SSD, 70B/1B on 4 + 1 H100. Input: the speed of drafting in turn on the task; a drafter's step of 2.0 ms, inferred from
these tables and not published. Fitted on the other tasks: the hit rate. Predicted: tokens/s with the cache. All tasks
gain about the same (1.54 to 1.61 times), so this is a weak test.
"""
SAID_OF_FORMULA = """\
"formula": a round is a step of the target alone with its prompts, the window fitted for each batch on the other tasks.
"""
SAID_OF_L40S = """\
Not gated: the tables have the same target alone on the same cards at speeds up to 1.7 times apart. The curve by rows is
an A40's, and a target alone that is slower on some tasks even for single sessions is not what the model has in mind:
the formula does better here.
"""
SAID_OF_BATCHES = """\
Not gated: no speed in turn is published for these. If sessions miss independently and one miss delays the batch, rounds
would be shorter than they were; what an outcome cache costs in batches is not in this model.
"""
SAID_OF_BREAK_EVEN = """\
Drafting elsewhere, in turn, is as fast as the target alone at a round trip of (2606.25091, Prop. 2; window 5, a
drafter's step of 10 ms):
"""


def validate() -> None:
    report = Report("validate", {})
    report.console.print(SAID, highlight=False)
    runs = pearl_runs()
    predictions = pearl.predicted(runs)
    _print_pearl(report, predictions)
    _print_batches(report, predictions)
    report.console.print(SAID_OF_FORMULA, highlight=False)
    _print_batches(report, pearl.predicted(runs, pearl.UNGATED))
    report.console.print(SAID_OF_L40S, highlight=False)
    ssd_errors = _print_ssd(report)
    _print_break_even(report)
    report.finish(None, **figures(predictions), ssd_mape=_percent(_mean(ssd_errors)))


def figures(predictions: Sequence[Prediction]) -> dict[str, float]:
    """Percent: mean and worst of single sessions, mean of the batches."""
    single = [abs(prediction.error) for prediction in predictions if prediction.run.batch == 1]
    batches = [abs(prediction.error) for prediction in predictions if prediction.run.batch > 1]
    return {
        "pearl_b1_mape": _percent(_mean(single)),
        "pearl_b1_max": _percent(max(single)),
        "pearl_batch_mape": _percent(_mean(batches)),
    }


def _print_pearl(report: Report, predictions: Iterable[Prediction]) -> None:
    columns = (
        "draft",
        "target",
        "task",
        "batch",
        "alpha",
        "window",
        "published",
        "predicted",
        "error",
        "formula alone",
    )
    lines = [
        (
            run.draft, run.target, run.task, str(run.batch), f"{run.alpha:.3f}", str(prediction.window),
            f"{run.pearl:.1f}", f"{prediction.tokens_per_second:.1f}", _signed(prediction.error),
            _signed(prediction.closed_form_error),
        )
        for prediction in predictions
        for run in (prediction.run,)
    ]  # fmt: skip
    report.table("nano-PEARL on H200, tokens/s, each task by the others; errors in percent", columns, lines)


def _print_batches(report: Report, predictions: Sequence[Prediction]) -> None:
    lines = []
    for batch in sorted({prediction.run.batch for prediction in predictions}):
        these = [prediction for prediction in predictions if prediction.run.batch == batch]
        biased = [prediction for prediction in these if prediction.run.task == BIASED]
        lines.append(
            (
                str(batch),
                *_summary([prediction.error for prediction in these]),
                _signed(_mean([prediction.error for prediction in biased])),
                *_summary([prediction.closed_form_error for prediction in these]),
                _signed(_mean([prediction.closed_form_error for prediction in biased])),
            )
        )
    columns = ("batch", "mean", "worst", f"{BIASED} bias", "formula: mean", "worst", f"{BIASED} bias")
    report.table(f"nano-PEARL on {predictions[0].run.card}, by batch: errors in percent", columns, lines)


def _print_ssd(report: Report) -> list[float]:
    """Errors of the gated rows."""
    predictions = ssd.predicted(ssd_runs())
    lines = [
        (
            prediction.run.id, prediction.run.task, f"{prediction.run.lockstep:g}", f"{prediction.hit:.3f}",
            f"{prediction.run.cached:g}", f"{prediction.tokens_per_second:.1f}", _signed(prediction.error),
        )
        for prediction in predictions
    ]  # fmt: skip
    columns = ("row", "task", "in turn", "hit rate", "published", "predicted", "error")
    report.table("SSD, tokens/s, each task by the others; errors in percent", columns, lines)
    steps = [
        (step.run.id, str(step.run.batch), f"{step.run.step_ms:.1f}", f"{step.milliseconds:.1f}", _signed(step.error))
        for step in ssd.steps_predicted(ssd_runs())
    ]
    report.table("SSD in batches, ms of a round", ("row", "batch", "published", "predicted", "error"), steps)
    report.console.print(SAID_OF_BATCHES, highlight=False)
    return [abs(prediction.error) for prediction in predictions]


def _print_break_even(report: Report) -> None:
    lines = []
    for target_ms in BREAK_EVEN_TARGETS_MS:
        trips = [
            remote_break_even_ms(alpha, BREAK_EVEN_WINDOW, BREAK_EVEN_DRAFT_MS, target_ms)
            for alpha in BREAK_EVEN_ALPHAS
        ]
        lines.append((f"{target_ms}", *(f"{trip:.0f}" if trip >= 0 else "-" for trip in trips)))
    report.console.print(SAID_OF_BREAK_EVEN, highlight=False)
    report.table(
        "Break-even round trip, ms", ("target ms", *(f"alpha {alpha:g}" for alpha in BREAK_EVEN_ALPHAS)), lines
    )


def _summary(errors: Sequence[float]) -> tuple[str, str]:
    sizes = [abs(error) for error in errors]
    return f"{_percent(_mean(sizes)):.1f}", f"{_percent(max(sizes)):.1f}"


def _mean(values: Sequence[float]) -> float:
    return statistics.fmean(values)


def _percent(share: float) -> float:
    return 100 * share


def _signed(share: float) -> str:
    return f"{_percent(share):+.1f}"
