"""From recorded answers to figures: what misses the SLO or fails is no goodput, and nothing is lost from the count."""

from __future__ import annotations

import pytest

from paceline.errors import Unavailable
from paceline.experiments.live.asking import Answer
from paceline.experiments.live.figures import Figures
from paceline.experiments.results import Instrument, System
from paceline.experiments.specification import Experiment, SloSpec, TargetSpec
from tests.experiments.live.recorded import answer

SLO = SloSpec(ttft_ms=500.0, tpot_ms=50.0)
QUICK = answer(0.0, 0.2, 2.2, tokens=101, steps=41)
LATE = answer(1.0, 1.6, 3.6, tokens=101, steps=51)
"""Its first token."""
SLOW = answer(1.0, 1.2, 4.2, tokens=51, steps=51)
"""60 ms per token."""
FAILED = Answer(2.0, last=5.0, tokens=30, first=2.1, failure="UNAVAILABLE: gone")


def test_only_whole_answers_within_the_slo_are_goodput() -> None:
    figures = Figures.of([QUICK, LATE, SLOW, FAILED], SLO)
    assert figures.seconds == 5.0
    assert figures.tokens_per_second == pytest.approx((101 + 101 + 51 + 30) / 5.0)
    assert figures.goodput == pytest.approx(101 / 5.0)
    assert (figures.requests, figures.failed, figures.within_slo) == (4, 1, 0.25)


def test_times_are_of_the_whole_answers() -> None:
    figures = Figures.of([QUICK, LATE, SLOW, FAILED], SLO)
    assert figures.ttft_ms.p50 == pytest.approx(200.0)
    assert figures.ttft_ms.p99 == pytest.approx(600.0)
    assert figures.tpot_ms.p50 == pytest.approx(20.0)
    assert figures.tpot_ms.p99 == pytest.approx(60.0)
    assert figures.step_ms == pytest.approx(20.0)
    assert figures.wait_ms_per_step == pytest.approx(2.0)


def test_a_first_token_comes_with_its_prompt_and_is_of_no_step() -> None:
    figures = Figures.of([QUICK, LATE], SLO)
    assert figures.steps == 90
    assert figures.tokens_per_step == pytest.approx(200 / 90)
    assert Figures.of([answer(0.0, 1.0, 1.0, tokens=1, steps=1)], SLO).tokens_per_step == 1.0


def test_where_nothing_is_answered_there_are_no_figures() -> None:
    with pytest.raises(Unavailable, match="none of 1 requests was answered: UNAVAILABLE: gone"):
        Figures.of([FAILED], SLO)
    with pytest.raises(Unavailable, match="none of 0 requests was answered"):
        Figures.of([], SLO)


def test_a_row_says_what_failed_and_keeps_what_it_is_told() -> None:
    experiment = Experiment("test", TargetSpec("m", "H200"), slo=SLO)
    row = Figures.of([QUICK, FAILED], SLO).row(
        Instrument.MEASURED, experiment, System.TREES, {"seed": 1}, {"low": 1.0, "mid": 2.0, "high": 3.0}, {"more": "x"}
    )
    assert (row.requests, row.notes["failed"], row.notes["more"], row.settings) == (2, 1, "x", {"seed": 1})
    assert row.dollars_per_million("mid") == pytest.approx(1e6 * 2.0 / 3600 / row.goodput)
