"""Our forward computes what transformers computes, whatever the batch looks like."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM

from paceline.engine import fused
from paceline.engine.batch import Rows
from paceline.engine.cache import ROOT
from paceline.engine.config import ModelConfig
from paceline.engine.runner import ModelRunner
from paceline.errors import UnsupportedModel
from tests.checkpoints import FAMILIES, write_checkpoint
from tests.engine.opening import opened

TOLERANCE = 2e-5
LLAMA3_ROPE = {
    "rope_type": "llama3", "rope_theta": 10000.0, "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}  # fmt: skip
CASES: dict[str, tuple[str, dict[str, Any]]] = {
    **{family: (family, {}) for family in FAMILIES},
    "llama with biases": ("llama", {"attention_bias": True, "mlp_bias": True}),
    "llama tied": ("llama", {"tie_word_embeddings": True}),
    "llama3 rope": ("llama", {"rope_parameters": LLAMA3_ROPE}),
    "linear rope": ("llama", {"rope_parameters": {"rope_type": "linear", "rope_theta": 10000.0, "factor": 2.0}}),
    "yarn rope": (
        "qwen3",
        {
            "rope_parameters": {
                "rope_type": "yarn", "rope_theta": 10000.0, "factor": 4.0, "original_max_position_embeddings": 64,
            }
        },
    ),
}  # fmt: skip


def reference(path: Path, tokens: list[int]) -> np.ndarray:
    """Logits after the last token, by transformers."""
    model = AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32)
    with torch.inference_mode():
        return np.asarray(model(torch.tensor([tokens])).logits[0, -1].numpy())


@pytest.mark.parametrize("case", CASES)
def test_tree_rows_equal_transformers_on_their_paths(case: str, tmp_path: Path) -> None:
    family, overrides = CASES[case]
    path = write_checkpoint(tmp_path, family, **overrides)
    runner = ModelRunner.load(path, cache_tokens=1024)
    prompt = np.random.default_rng(0).integers(0, 64, 100).tolist()
    sequence = opened(runner, 256, 32)
    runner.prefill(sequence, prompt[:-1])
    (logits,) = runner.forward([Rows(sequence, [prompt[-1], 5, 6, 7, 8], [ROOT, 0, 0, 1, 2])])
    for row, below in enumerate(([], [5], [6], [5, 7], [6, 8])):
        expected = reference(path, prompt + below)
        assert np.abs(expected).max() > 0.5  # else agreement would mean nothing
        np.testing.assert_allclose(logits[row], expected, atol=TOLERANCE, rtol=1e-4)
    sequence.keep([0, 2, 4], commit=3)
    (after,) = runner.forward([Rows(sequence, [9], [ROOT])])
    np.testing.assert_allclose(after[0], reference(path, [*prompt, 6, 8, 9]), atol=TOLERANCE, rtol=1e-4)


def test_a_session_gives_the_same_logits_alone_and_in_company(target_path: Path) -> None:
    """Roots with nodes, single rows and chunks of prefill of different lengths, in one forward and apart."""
    rng = np.random.default_rng(1)
    prompts = [rng.integers(0, 64, length).tolist() for length in (3, 40, 17, 90)]
    trees = [([1, 2, 3], [ROOT, 0, 0]), ([4], [ROOT]), ([5, 6, 7, 8, 9], [ROOT, 0, 1, 2, 0]), (list(range(30)), None)]

    def run(*, together: bool) -> list[np.ndarray]:
        runner = ModelRunner.load(target_path, cache_tokens=2048)
        groups = []
        for prompt, (tokens, parents) in zip(prompts, trees, strict=True):
            sequence = opened(runner, 200, 16)
            runner.prefill(sequence, prompt)
            groups.append(Rows(sequence, tokens, parents))
        return runner.forward(groups) if together else [runner.forward([group])[0] for group in groups]

    for alone, mixed in zip(run(together=False), run(together=True), strict=True):
        np.testing.assert_allclose(alone, mixed, atol=TOLERANCE, rtol=1e-4)


def test_chunked_prefill_equals_one_piece(target_path: Path) -> None:
    runner = ModelRunner.load(target_path, cache_tokens=2048)
    tokens = np.random.default_rng(2).integers(0, 64, 70).tolist()
    whole, parts = opened(runner, 128, 8), opened(runner, 128, 8)
    (expected,) = runner.forward([Rows(whole, tokens)])
    for start in range(0, 70, 32):
        chunk = tokens[start : start + 32]
        (last,) = runner.forward([Rows(parts, chunk)])
        parts.keep(range(len(chunk)), commit=len(chunk))
    np.testing.assert_allclose(last, expected, atol=TOLERANCE, rtol=1e-4)


def test_scattered_blocks_change_nothing(target_path: Path) -> None:
    runner = ModelRunner.load(target_path, cache_tokens=1024)
    tokens = np.random.default_rng(3).integers(0, 64, 100).tolist()
    plain = opened(runner, 128, 8)
    (expected,) = runner.forward([Rows(plain, tokens)])
    holders = [opened(runner, 16, 8) for _ in range(20)]
    for holder in holders[::2]:
        holder.close()
    scattered = opened(runner, 128, 8)
    assert not scattered.contiguous
    (found,) = runner.forward([Rows(scattered, tokens)])
    np.testing.assert_allclose(found, expected, atol=TOLERANCE, rtol=1e-4)


@pytest.mark.parametrize(
    ("family", "overrides", "field"),
    [
        ("llama", {"hidden_act": "gelu"}, "hidden_act"),
        ("llama", {"rope_parameters": {"rope_type": "dynamic", "rope_theta": 1e4, "factor": 2.0}}, "rope_type"),
    ],
)
def test_what_is_not_computed_is_refused_by_name(family: str, overrides: dict[str, Any], field: str) -> None:
    with pytest.raises(UnsupportedModel, match=f"{field} = "):
        ModelConfig.of(FAMILIES[family](**overrides).to_dict())


def test_pickled_weights_are_not_read(target_path: Path, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text((target_path / "config.json").read_text())
    torch.save({}, tmp_path / "pytorch_model.bin")
    with pytest.raises(UnsupportedModel, match="safetensors"):
        ModelRunner.load(tmp_path, cache_tokens=64)


def test_layers_are_compiled() -> None:
    """The fall-back to plain Python is for other builds of torch, not for a mistake of ours."""
    assert all(
        isinstance(part, torch.jit.ScriptFunction) for part in (fused.project, fused.attend, fused.finish, fused.head)
    )
