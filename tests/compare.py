"""When two texts count as the same (DESIGN §5): up to near-ties of float32 logits, proven in float64."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import AutoModelForCausalLM

from paceline.speculation.noise import NoiseCache, noise_key
from paceline.speculation.sampling import SamplingParameters

NEAR_TIE = 1e-4


def float64_logits(path: Path, tokens: Sequence[int]) -> np.ndarray:
    """Logits after each token, by transformers in float64."""
    with torch.inference_mode():
        return np.asarray(_float64_model(path)(torch.tensor([list(tokens)])).logits[0].numpy())


@functools.lru_cache(maxsize=4)
def _float64_model(path: Path) -> Any:
    return AutoModelForCausalLM.from_pretrained(path, dtype=torch.float64)


def assert_same_text(
    path: Path,
    prompt: Sequence[int],
    found: Sequence[int],
    expected: Sequence[int],
    sampling: SamplingParameters,
    seed: int = 0,
) -> bool:
    """Whether the texts are equal; fails unless their first difference is a near-tie."""
    if list(found) == list(expected):
        return True
    common = next((i for i, (a, b) in enumerate(zip(found, expected, strict=False)) if a != b), None)
    assert common is not None, f"one text ends early: {len(found)} and {len(expected)} tokens"
    assert not sampling.truncates, "near-ties at truncation boundaries are not looked into: use parameters without"
    prefix = [*prompt, *expected[:common]]
    scores = float64_logits(path, prefix)[-1]
    if not sampling.greedy:
        noise = NoiseCache(noise_key(seed, 0, prompt), len(scores))
        scores = scores / sampling.temperature + noise.vector(len(prefix))
    gap = abs(scores[found[common]] - scores[expected[common]])
    assert gap < NEAR_TIE, f"token {common}: {found[common]} and {expected[common]} differ by {gap}"
    return False
