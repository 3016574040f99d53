"""A forward's emulated time goes by what is in it: rows that decode, prompts' rows, context."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from paceline.emulation import Pace
from paceline.engine.batch import Rows
from paceline.engine.cache import ROOT
from tests.in_process import load


def test_rows_of_prompts_and_of_decoding_are_told_apart(target_path: Path) -> None:
    torch.set_num_threads(1)
    runner = load(target_path)
    runner.pace = pace = Pace.parse("1ms,per_row=1us,prompt_token=10us,context=1s")
    assert pace is not None
    decoding, prompt = runner.open(max_tail=8), runner.open(max_tail=8)
    runner.prefill(decoding, [1] * 32)
    assert pace.asked_seconds == pytest.approx(320e-6)
    prompt.reserve(16)
    decoding.reserve(40)
    runner.forward([Rows(decoding, [1, 2, 3], [ROOT, 0, 1]), Rows(prompt, [1] * 5)])
    assert pace.asked_seconds == pytest.approx(320e-6 + 1e-3 + 2e-6 + 50e-6 + 32 / 1024)
