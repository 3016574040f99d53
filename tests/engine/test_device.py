"""What can be said of an accelerator without one: what is not there is named, and nothing stays behind on the CPU."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from paceline.engine.batch import Rows
from paceline.engine.cache import ROOT
from paceline.engine.device import device_name, find_device
from paceline.engine.runner import Logits, ModelRunner
from paceline.speculation.fields import FieldError
from tests.engine.opening import opened


@pytest.mark.parametrize("name", ["cuda:99", "gpu", "meta", ""])
def test_a_device_that_is_not_there_is_named(name: str, target_path: Path) -> None:
    with pytest.raises(FieldError, match=f"device = '{name}': expected a device of this machine: cpu"):
        ModelRunner.load(target_path, cache_tokens=64, device=name)


def test_the_cpu_is_always_there() -> None:
    assert find_device("cpu") == torch.device("cpu")
    assert device_name(torch.device("cpu")) == "cpu"


def test_on_an_accelerator_nothing_is_prepared_by_shape(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda **_: torch.device("cuda"))
    monkeypatch.setattr(torch.accelerator, "device_count", lambda: 2)
    before = torch.jit.set_fusion_strategy([("STATIC", 1)])
    try:
        assert find_device("cuda:1") == torch.device("cuda:1")
        assert torch.jit.set_fusion_strategy(before) == []
        assert not torch.backends.cuda.cudnn_sdp_enabled()  # type: ignore[no-untyped-call]
        with pytest.raises(FieldError, match="this machine: cpu, cuda, cuda:0, cuda:1"):
            find_device("cuda:2")
    finally:
        torch.jit.set_fusion_strategy(before)
        torch.backends.cuda.enable_cudnn_sdp(enabled=True)


def test_a_forward_leaves_nothing_on_the_cpu() -> None:
    """In bfloat16, in all layouts of attention; in a process of its own, whose torch has one more device."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.engine.pretended", "tiny"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_bfloat16_says_about_what_float32_says(target_path: Path) -> None:
    """Its weights are not prepacked, which is how they lie on an accelerator."""

    def logits(dtype: str) -> Logits:
        runner = ModelRunner.load(target_path, cache_tokens=1024, dtype=dtype)
        assert runner.decoder.weights.head.packed == (dtype == "float32")
        sequence = opened(runner, 64, 16)
        runner.prefill(sequence, [1, 2, 3, 4, 5])
        (rows,) = runner.forward([Rows(sequence, [6, 7, 8], [ROOT, 0, 0])])
        return rows

    exact, rounded = logits("float32"), logits("bfloat16")
    assert np.abs(exact - rounded).max() < 0.1 * exact.std()
