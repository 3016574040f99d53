"""How far predictions are from what was published, and that no run predicts itself."""

from __future__ import annotations

import statistics
from dataclasses import replace

import pytest

from paceline.experiments.tables import DATA
from paceline.experiments.validation import pearl, ssd
from paceline.experiments.validation.pearl import Prediction
from paceline.experiments.validation.report import figures
from paceline.experiments.validation.runs import PearlRun, SsdRun, pearl_runs, ssd_runs

RUNS = pearl_runs()
OF_ONE_TARGET = [run for run in RUNS if run.target == "Qwen3-32B"]


@pytest.fixture(scope="module")
def predictions() -> list[Prediction]:
    return pearl.predicted(RUNS)


def test_pearl_is_predicted(predictions: list[Prediction]) -> None:
    assert len([prediction for prediction in predictions if prediction.run.batch == 1]) == 24
    assert len(predictions) == 96
    found = figures(predictions)
    assert found["pearl_b1_mape"] <= 5
    assert found["pearl_b1_max"] <= 12
    assert found["pearl_batch_mape"] <= 12


def test_prompts_and_rows_are_what_the_formula_misses_in_batches(predictions: list[Prediction]) -> None:
    """With them every batch is predicted better, and long prompts without a bias."""
    for batch in (8, 16, 32):
        these = [prediction for prediction in predictions if prediction.run.batch == batch]
        error = statistics.fmean(abs(prediction.error) for prediction in these)
        assert error < 0.5 * statistics.fmean(abs(prediction.closed_form_error) for prediction in these)
        bias = statistics.fmean(prediction.error for prediction in these if prediction.run.task == "CNNDM")
        assert abs(bias) < 0.05


def test_ssd_is_predicted() -> None:
    found = ssd.predicted(ssd_runs())
    assert [prediction.run.id for prediction in found] == ["S1", "S2", "S3", "S4", "R1"]
    assert 100 * statistics.fmean(abs(prediction.error) for prediction in found) <= 7
    assert all(0.85 <= prediction.hit <= 0.95 for prediction in found)


@pytest.mark.parametrize("card", ["H200", "L40S"])
def test_the_formula_alone_gives_what_the_table_of_published_runs_says(card: str) -> None:
    """Two programs, one formula: windows fitted and speeds predicted again, from ``mat`` instead of a rounded alpha."""
    lines = (DATA / "validation_pearl.csv").read_text().splitlines()
    there = [line.split(",") for line in lines[1:] if line.startswith(card.lower())]
    ours = [pearl.closed_form(run, RUNS) for run in RUNS if run.card == card]
    windows = [int(line[8]) for line in there]
    same = [
        (speed, float(line[11])) for (window, speed), line in zip(ours, there, strict=True) if window == int(line[8])
    ]
    assert len(same) >= 0.95 * len(windows)
    assert [speed for speed, _ in same] == pytest.approx([theirs for _, theirs in same], rel=0.01)


def prediction_of(run: PearlRun, runs: list[PearlRun]) -> float:
    (found,) = [prediction for prediction in pearl.predicted(runs) if prediction.run == run]
    return found.tokens_per_second


HELD_OUT = [
    run for run in OF_ONE_TARGET if (run.card, run.draft, run.batch) == ("H200", "Qwen3-1.7B", 8) and run.task != "AIME"
]


@pytest.mark.parametrize("run", HELD_OUT, ids=lambda run: run.task)
def test_a_run_does_not_predict_itself(run: PearlRun) -> None:
    """However fast it had been: neither it nor its task at other batches counts. Its acceptance does, as an input."""
    before = prediction_of(run, OF_ONE_TARGET)
    faster = [replace(each, pearl=10 * each.pearl) if each.task == run.task else each for each in OF_ONE_TARGET]
    assert prediction_of(replace(run, pearl=10 * run.pearl), faster) == before
    formula = pearl.closed_form(run, OF_ONE_TARGET)
    assert pearl.closed_form(replace(run, pearl=10 * run.pearl), faster) == formula
    luckier = replace(run, mat=2 * run.mat)
    assert prediction_of(luckier, [luckier if each == run else each for each in OF_ONE_TARGET]) > 1.1 * before


def test_other_tasks_do_predict_it() -> None:
    run = HELD_OUT[0]
    slower = [replace(each, pearl=0.7 * each.pearl) if each.task != run.task else each for each in OF_ONE_TARGET]
    assert prediction_of(run, slower) < 0.9 * prediction_of(run, OF_ONE_TARGET)


@pytest.mark.parametrize("name", ssd.PREDICTED)
def test_a_run_with_the_cache_does_not_predict_itself(name: str) -> None:
    """Nor does the other run of its task. Its speed in turn is an input."""
    runs = ssd_runs()

    def predicted(runs: list[SsdRun]) -> float:
        return next(prediction.tokens_per_second for prediction in ssd.predicted(runs) if prediction.run.id == name)

    before = predicted(runs)
    assert predicted([replace(run, cached=1.2 * run.cached) if run.id == name else run for run in runs]) == before
    others = [replace(run, cached=0.9 * run.cached) if run.id != name else run for run in runs]
    assert predicted(others) < before
    faster = [replace(run, lockstep=2 * run.lockstep) if run.id == name else run for run in runs]
    assert predicted(faster) == pytest.approx(2 * before)
