"""Choices are exact draws from the warped law, and warping cuts what it should."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from paceline.speculation.fields import FieldError
from paceline.speculation.noise import NoiseCache
from paceline.speculation.sampling import SamplingParameters, choose, warp

LOGITS = np.array([2.0, 1.0, 1.0, 0.0, -1.0, 3.0, 0.5, -2.0], np.float32)


def law(parameters: SamplingParameters) -> np.ndarray:
    scores = warp(LOGITS[None], parameters)[0]
    weights = np.exp(scores - scores.max())
    return np.asarray(weights / weights.sum())


@pytest.mark.parametrize(
    "parameters",
    [
        SamplingParameters(),
        SamplingParameters(temperature=0.5),
        SamplingParameters(temperature=2.0, top_k=4),
        SamplingParameters(top_p=0.8),
        SamplingParameters(min_p=0.2),
        SamplingParameters(temperature=1.3, top_k=6, top_p=0.9, min_p=0.05),
    ],
)
def test_choice_has_the_warped_law(parameters: SamplingParameters) -> None:
    """Chi-square over 20,000 fixed keys, alarm at 1e-4 (six cases: 6e-4 for the test, and fixed for ever)."""
    counts = np.bincount([choose(LOGITS, parameters, NoiseCache(key, 8), 7) for key in range(20_000)], minlength=8)
    expected = law(parameters) * counts.sum()
    assert not counts[expected == 0].any()
    assert stats.chisquare(counts[expected > 0], expected[expected > 0]).pvalue > 1e-4


def test_greedy_takes_the_lowest_of_equal_ids() -> None:
    logits = np.array([0.0, 5.0, 5.0], np.float32)
    assert choose(logits, SamplingParameters(temperature=0), NoiseCache(0, 3), 0) == 1


def test_top_k_cuts_ties_by_id() -> None:
    kept = np.flatnonzero(np.isfinite(warp(LOGITS[None], SamplingParameters(top_k=3))[0]))
    assert kept.tolist() == [0, 1, 5]  # tokens 1 and 2 tie for the third place


def test_top_p_keeps_the_token_that_crosses() -> None:
    logits = np.log(np.array([[0.5, 0.3, 0.15, 0.05]], np.float32))
    for top_p, kept in ((0.5, 1), (0.51, 2), (0.8001, 3), (0.96, 4)):
        assert np.isfinite(warp(logits, SamplingParameters(top_p=top_p))).sum() == kept


def test_min_p_is_relative_to_the_likeliest() -> None:
    logits = np.log(np.array([[0.5, 0.3, 0.15, 0.05]], np.float32))
    assert np.isfinite(warp(logits, SamplingParameters(min_p=0.29))).sum() == 3


def test_top_p_applies_after_top_k() -> None:
    """Renormalised over the best two, 0.5 and 0.3 are 0.625 and 0.375: the first alone reaches 0.6."""
    logits = np.log(np.array([[0.5, 0.3, 0.15, 0.05]], np.float32))
    assert np.isfinite(warp(logits, SamplingParameters(top_k=2, top_p=0.6))).sum() == 1


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("max_tokens", 0),
        ("temperature", -0.1),
        ("temperature", math.nan),
        ("temperature", math.inf),
        ("top_p", 0.0),
        ("top_p", 1.5),
        ("max_tokens", 1 << 32),
        ("min_tokens", 1 << 32),
        ("top_k", -1),
        ("top_k", 1 << 32),
        ("stop_token_ids", (1 << 32,)),
        ("stop_token_ids", (-1,)),
        ("logit_bias", ((1 << 32, 1.0),)),
        ("min_p", 2.0),
    ],
)
def test_bad_values_are_named(field: str, value: float) -> None:
    with pytest.raises(FieldError, match=f"{field} = .*: expected"):
        SamplingParameters(**{field: value})  # type: ignore[arg-type]
