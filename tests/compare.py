"""When two texts count as the same (DESIGN §5): up to near-ties of float32 logits, proven in float64."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from paceline.bench.ties import NEAR_TIE, first_difference, float64_logits, score_gap
from paceline.speculation.sampling import SamplingParameters

__all__ = ["assert_same_text", "float64_logits"]


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
    common = first_difference(found, expected)
    assert common is not None, f"one text ends early: {len(found)} and {len(expected)} tokens"
    gap = score_gap(path, prompt, found, expected, sampling, seed)
    assert gap < NEAR_TIE, f"token {common}: {found[common]} and {expected[common]} differ by {gap}"
    return False
