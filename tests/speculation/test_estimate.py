"""Estimates: ranking children, and the scale of scores that is fitted to what the target chooses."""

from __future__ import annotations

import numpy as np
import pytest

from paceline.speculation.estimate import ScoreScale, rank_children

VOCABULARY, WIDTH = 64, 3


def test_children_are_ranked_with_the_law_of_their_scores() -> None:
    scores = np.array([[0.0, 3.0, -np.inf, 1.0]])
    (guess,) = rank_children(scores, 2, kappa=2.0)
    law = np.exp(scores[0] / 2.0) / np.exp(scores[0] / 2.0).sum()
    assert guess.token_ids == [1, 3]
    assert np.exp(guess.log_scores) == pytest.approx(law[[1, 3]])
    mean = law[[0, 1, 3]] @ scores[0, [0, 1, 3]]
    assert guess.excess == pytest.approx([3.0 - mean, 1.0 - mean])


@pytest.mark.parametrize("true_kappa", [0.5, 1.0, 4.0])
def test_the_scale_finds_the_kappa_that_the_choices_were_drawn_with(true_kappa: float) -> None:
    draw, scale = np.random.default_rng(1), ScoreScale()
    for _ in range(3000):
        scores = 3.0 * draw.normal(size=(1, VOCABULARY))
        (guess,) = rank_children(scores, WIDTH, scale.kappa)
        law = np.exp((scores[0] - scores.max()) / true_kappa)
        scale.add(guess, int(draw.choice(VOCABULARY, p=law / law.sum())))
    assert scale.kappa == pytest.approx(true_kappa, rel=0.15)


def test_who_is_never_right_is_soon_sure_of_nothing() -> None:
    draw, scale = np.random.default_rng(2), ScoreScale()
    for _ in range(300):
        (guess,) = rank_children(3.0 * draw.normal(size=(1, VOCABULARY)), WIDTH, scale.kappa)
        scale.add(guess, int(draw.integers(VOCABULARY)))
    (guess,) = rank_children(3.0 * draw.normal(size=(1, VOCABULARY)), WIDTH, scale.kappa)
    assert np.exp(guess.log_scores).max() < 0.2


def test_children_that_are_cut_off_teach_the_scale_nothing() -> None:
    (guess,) = rank_children(np.array([[2.0, 1.0, -np.inf, -np.inf]]), WIDTH, kappa=1.0)
    scale = ScoreScale()
    scale.add(guess, 0)
    scale.add(guess, 1)
    assert np.isfinite(scale.kappa)
