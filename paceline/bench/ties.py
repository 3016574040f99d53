"""When two texts count as the same in standard numerics (DESIGN §5): up to near-ties of logits, proven in float64."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from transformers import AutoModelForCausalLM

from paceline.speculation.law import TokenLaw
from paceline.speculation.noise import NoiseCache, noise_key
from paceline.speculation.sampling import SamplingParameters

NEAR_TIE = 1e-4


def float64_logits(path: Path, tokens: Sequence[int]) -> npt.NDArray[np.float64]:
    """Logits ``[tokens, vocabulary]`` after each token, by transformers in float64."""
    with torch.inference_mode():
        return np.asarray(_float64_model(path)(torch.tensor([list(tokens)])).logits[0].numpy())


def first_difference(found: Sequence[int], expected: Sequence[int]) -> int | None:
    """Where both texts go on, and differently; None if one of them only ends earlier, or neither."""
    pairs = enumerate(zip(found, expected, strict=False))
    return next((index for index, (one, other) in pairs if one != other), None)


def score_gap(
    path: Path,
    prompt: Sequence[int],
    found: Sequence[int],
    expected: Sequence[int],
    sampling: SamplingParameters,
    seed: int,
) -> float:
    """By how much the scores of two texts' tokens differ where the texts first do.

    What a grammar allows does not matter: it allows both. Truncation must not be asked for: its borders are not looked
    into.
    """
    assert not sampling.truncates, "near-ties at truncation boundaries are not looked into"
    at = first_difference(found, expected)
    assert at is not None, "the texts differ at some token"
    prefix = [*prompt, *expected[:at]]
    logits = float64_logits(path, prefix)[-1]
    noise = NoiseCache(noise_key(seed, 0, prompt), len(logits))
    law = TokenLaw(sampling, noise, prefix, len(prompt), len(logits), ())
    scores = law.adjust(logits, len(prefix))
    if not sampling.greedy:
        scores = scores / sampling.temperature + noise.vector(len(prefix))
    return float(abs(scores[found[at]] - scores[expected[at]]))


@functools.lru_cache(maxsize=4)
def _float64_model(path: Path) -> Any:
    return AutoModelForCausalLM.from_pretrained(path, dtype=torch.float64)
