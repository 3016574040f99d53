"""The demo's arithmetic."""

from __future__ import annotations

import pytest

from paceline.bench.demo import MODES, TEMPERATURES, Run, identical, ratio_to_off
from paceline.bench.text import repeated_ngrams
from paceline.speculation.policy import Mode


def test_repeated_ngrams() -> None:
    assert repeated_ngrams(range(20)) == 0
    assert repeated_ngrams([1] * 20) == pytest.approx(12 / 13)
    assert repeated_ngrams([1, 2]) == 0


def test_ratios_are_medians_of_pairs_and_texts_are_compared() -> None:
    speeds = {Mode.OFF: (10, 20, 40), Mode.LOCKSTEP: (20, 20, 20), Mode.OVERLAPPED: (30, 40, 100)}
    runs = [
        Run(prompt, temperature, mode.value, (prompt, int(mode is Mode.OVERLAPPED and prompt == 2)), "", speed, 1.0, {})
        for temperature in TEMPERATURES
        for mode in MODES
        for prompt, speed in enumerate(speeds[mode])
    ]
    assert ratio_to_off(runs, 0.8, Mode.OVERLAPPED) == 2.5
    assert ratio_to_off(runs, 0.0, Mode.LOCKSTEP) == 1.0
    assert identical(runs, 0.0) == 2
