"""Choices are exact draws from the warped law, and warping cuts what it should."""

from __future__ import annotations

import ast
import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from paceline.speculation.fields import FieldError
from paceline.speculation.law import TokenLaw
from paceline.speculation.noise import Floats, NoiseCache, uniform
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


class Extremes(NoiseCache):
    """Noise at the ends of what it can be: the largest for some tokens, the smallest for all others."""

    def __init__(self, favoured: np.ndarray) -> None:
        super().__init__(0, len(favoured))
        least, largest = (-np.log(-np.log(u)) for u in uniform(np.array([0, 2**64 - 1], np.uint64)))
        self._noise: Floats = np.where(favoured, largest, least)
        self.span = largest - least

    def vector(self, position: int) -> Floats:
        return self._noise


@pytest.mark.parametrize(
    "parameters",
    [SamplingParameters(top_k=1), SamplingParameters(top_p=0.3), SamplingParameters(min_p=0.9), SamplingParameters()],
)
@pytest.mark.parametrize("shift", [0.0, 1e30, -1e30])
def test_a_token_that_is_cut_or_masked_is_not_chosen_at_the_edge_of_the_draw(
    parameters: SamplingParameters, shift: float
) -> None:
    """A bug that servers shipped: at u = 0 or 1 the first or the last token came out, whatever its probability."""
    logits = np.full(8, -np.inf, np.float32)
    logits[3] = shift
    if parameters.truncates:
        logits[5] = np.float32(shift) - (1 if shift == 0 else np.float32(1e25))
    assert choose(logits, parameters, Extremes(np.arange(8) != 3), 0) == 3
    law = TokenLaw(parameters, Extremes(np.arange(8) != 3), [1], 1, 8, ())
    assert law.choose(np.zeros(8, np.float32), 1, allowed=np.arange(8) == 3) == 3, "nor what a grammar masks"


def test_no_noise_lifts_a_token_over_one_that_is_surer_than_all_of_it() -> None:
    noise = Extremes(np.arange(4) == 0)
    for gap, chosen in ((noise.span * 0.99, 0), (noise.span * 1.01, 2)):
        logits = np.array([0.0, -np.inf, gap, -np.inf], np.float32)
        assert choose(logits, SamplingParameters(), noise, 0) == chosen


CHOICES = """
import hashlib, numpy as np
from paceline.speculation.law import TokenLaw
from paceline.speculation.noise import Floats, NoiseCache, uniform
from paceline.speculation.sampling import SamplingParameters, choose
logits = np.random.default_rng(5).normal(size=(200, 4096)).astype(np.float32) * 3
laws = [SamplingParameters(), SamplingParameters(temperature=0.7, top_p=0.9, top_k=50, min_p=0.01)]
chosen = [choose(row, law, NoiseCache(99, 4096), at) for law in laws for at, row in enumerate(logits)]
print(chosen)
"""


def test_processes_that_hold_the_same_logits_and_key_choose_the_same_tokens() -> None:
    """A bug that servers shipped: ranks of one model that each drew for itself, and parted."""
    told = [
        subprocess.run([sys.executable, "-c", CHOICES], capture_output=True, text=True, check=True, env=environment)
        for environment in ({}, {"PYTHONHASHSEED": "1", "OMP_NUM_THREADS": "2"})
    ]
    assert told[0].stdout == told[1].stdout
    assert len(set(told[0].stdout.split())) > 100


def test_a_step_is_decided_in_one_place() -> None:
    """What holds the model only computes: ranks of a model, or rows of a step, cannot come to choices of their own."""
    root = Path(__file__).parents[2]
    deciding = {
        path.relative_to(root).as_posix()
        for package in ("verifier_service", "paceline/engine")
        for path in (root / package).rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ImportFrom)
        and node.module in ("paceline.speculation.accept", "paceline.speculation.sampling", "paceline.speculation.law")
        and {"walk", "choose", "draw"} & {name.name for name in node.names}
    }
    assert deciding == {"verifier_service/steps.py"}
