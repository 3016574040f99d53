"""From a drafter's scores to estimates of being right."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from paceline.speculation.largest import largest
from paceline.speculation.noise import Floats

_LEAST_KAPPA, _LARGEST_KAPPA = 0.2, 20.0
_PRIOR_INFORMATION = 40.0
"""What kappa = 1, a draft model that was trained on its target, is worth before anything is known: some ten tokens."""
_KAPPA_MEMORY, _LARGEST_CHANGE = 0.998, 0.05
_NO_WEIGHT = -700.0
"""Whatever lies so far below the best has a weight of 0, and 0 times minus infinity is not a number."""
_PRIOR_OUTCOMES, _RATE_MEMORY = 10.0, 0.995
_LEAST_RATE, _LARGEST_RATE = 0.005, 0.99
_PRIOR_TOKENS = 2.0
_MEMORY = 0.97
_LEAST_FACTOR, _LARGEST_FACTOR = 1e-3, 2.0


@dataclass(frozen=True)
class Guess:
    """What one node's children were thought to be, best first: tokens, log P(accepted | parent accepted), and by how
    much their score exceeds the mean score under that distribution."""

    token_ids: list[int]
    log_scores: list[float]
    excess: list[float]


def rank_children(scores: Floats, width: int, kappa: float) -> list[Guess]:
    """The best ``width`` tokens of each row and log P(accepted | parent accepted) = log softmax(score / kappa).

    ``scores`` is ``[rows, vocabulary]``: warped logits plus the shared noise, minus infinity where a token is cut off.
    With noise this is a Gumbel-top-k sample without replacement (Recursive Speculative Decoding, arXiv 2402.14160) and
    at the same time the best guess at what the target will choose.
    """
    best = largest(scores, width)
    top = np.take_along_axis(scores, best, -1)
    below = np.maximum(scores - top[:, :1], _NO_WEIGHT * kappa)
    weights = np.exp(below / kappa)
    total = weights.sum(-1, keepdims=True)
    mean = np.einsum("rv,rv->r", weights, below)[:, None] / total
    top -= top[:, :1]
    log_scores = top / kappa - np.log(total)
    excess = np.where(np.isfinite(top), top - mean, 0.0)  # what is cut off weighs nothing
    return [Guess(*row) for row in zip(best.tolist(), log_scores.tolist(), excess.tolist(), strict=True)]


class ScoreScale:
    """kappa of one drafter, fitted online to what the target has chosen, by maximum likelihood.

    In beta = 1 / kappa a guess is an exponential family: the derivative of an outcome's log-probability is the excess
    of its score, and the information in it the excess's variance. So each verdict moves beta by its derivative over
    all the information so far (natural gradient), old verdicts fading.
    """

    def __init__(self) -> None:
        self._beta, self._information = 1.0, _PRIOR_INFORMATION

    @property
    def kappa(self) -> float:
        return 1.0 / self._beta

    def add(self, guess: Guess, chosen: int) -> None:
        """The target has chosen a token where this was guessed."""
        pairs = [(math.exp(log), excess) for log, excess in zip(guess.log_scores, guess.excess, strict=True)]
        moment = sum(p * excess for p, excess in pairs)
        rest = max(1.0 - sum(p for p, _ in pairs), 1e-6)
        information = sum(p * excess * excess for p, excess in pairs) + moment * moment / rest
        known = chosen in guess.token_ids
        gradient = guess.excess[guess.token_ids.index(chosen)] if known else -moment / rest
        self._information = _KAPPA_MEMORY * self._information + information
        most = _LARGEST_CHANGE * self._beta  # a miss of what was all but certain is no reason to doubt everything
        self._beta += min(max(gradient / self._information, -most), most)
        self._beta = min(max(self._beta, 1 / _LARGEST_KAPPA), 1 / _LEAST_KAPPA)


class Calibration:
    """How a drafter's estimates of log P(accepted | parent accepted) compare with what came of them.

    Kept per drafter, over all sessions. Before anything is known of it half of what it says is believed.
    """

    def __init__(self) -> None:
        self._expected, self._accepted = _PRIOR_TOKENS, 0.5 * _PRIOR_TOKENS
        self._tested = _PRIOR_TOKENS

    def add(self, expected: float, accepted: float, tested: int) -> None:
        """After a step: what it promised of the nodes that were put to the test, their parents being accepted, how
        many of them were accepted, and how many they were."""
        self._tested = _MEMORY * self._tested + tested
        self._expected = _MEMORY * self._expected + expected
        self._accepted = _MEMORY * self._accepted + accepted

    @property
    def factor(self) -> float:
        return self._accepted / self._expected if self._expected > 0 else 0.0

    @property
    def error(self) -> float:
        """By how much a node's probability was wrong on the average lately, too high or too low."""
        return abs(self._expected - self._accepted) / self._tested

    def trust(self, above: int = 0, promised: float = 0.0) -> float:
        """Logarithm by which an estimate of log P(accepted | parent accepted) is corrected.

        ``above`` of the node's ancestors are on trial still and its drafter's, too, who ``promised`` so many of them.
        That the parent is accepted means that they were: whoever is right so far is right about the next one, and a
        drafter of which nothing is known is doubted once for a path and not at every node of it.
        """
        factor = (self._accepted + above) / max(self._expected + promised, _LEAST_FACTOR)
        return math.log(min(max(factor, _LEAST_FACTOR), _LARGEST_FACTOR))


class MovingAverage:
    """An exponential average that starts at its first value."""

    def __init__(self, weight: float = 0.1, initial: float | None = None) -> None:
        self.value, self._weight = initial, weight

    def add(self, sample: float) -> None:
        self.value = sample if self.value is None else self.value + self._weight * (sample - self.value)

    def get(self, default: float) -> float:
        return default if self.value is None else self.value


class HitRates:
    """How often evidence of each strength has come true, for drafters that count rather than compute."""

    def __init__(self, priors: Sequence[float]) -> None:
        """``priors`` by strength; the last one holds for all that are stronger. Each is worth ten outcomes."""
        self._priors = list(priors)
        self._counts: dict[int, list[float]] = {}

    def rate(self, strength: int) -> float:
        """The share that has come true, never quite 0 or 1."""
        hits, outcomes = self._of(strength)
        return min(max(hits / outcomes, _LEAST_RATE), _LARGEST_RATE)

    def add(self, strength: int, *, hit: bool) -> None:
        """One outcome; older ones fade."""
        counts = self._of(strength)
        counts[0] = _RATE_MEMORY * counts[0] + hit
        counts[1] = _RATE_MEMORY * counts[1] + 1.0

    def _of(self, strength: int) -> list[float]:
        prior = self._priors[min(strength, len(self._priors) - 1)]
        return self._counts.setdefault(strength, [_PRIOR_OUTCOMES * prior, _PRIOR_OUTCOMES])
