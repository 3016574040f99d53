"""From a drafter's scores to estimates of being right."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from paceline.speculation.noise import Floats

DEFAULT_KAPPA = 1.0
"""Score scale of a draft model trained on its target; measured on the embedded pair (docs/log.md)."""

_PRIOR_TOKENS = 2.0
_MEMORY = 0.97
_LEAST_FACTOR, _LARGEST_FACTOR = 1e-3, 2.0


def rank_children(scores: Floats, width: int, kappa: float) -> tuple[npt.NDArray[np.int64], Floats]:
    """The best ``width`` tokens of each row and log P(accepted | parent accepted) = log softmax(score / kappa).

    ``scores`` is ``[rows, vocabulary]``: warped logits plus the shared noise, minus infinity where a token is cut off.
    With noise this is a Gumbel-top-k sample without replacement (Recursive Speculative Decoding, arXiv 2402.14160) and
    at the same time the best guess at what the target will choose. Returns two ``[rows, width]`` arrays, best first.
    """
    width = min(width, scores.shape[1])
    best = np.argpartition(-scores, width - 1, axis=-1)[:, :width]
    top = np.take_along_axis(scores, best, -1)
    order = np.argsort(-top, axis=-1, kind="stable")
    best, top = np.take_along_axis(best, order, -1), np.take_along_axis(top, order, -1)
    largest = top[:, :1]
    total = np.exp((scores - largest) / kappa).sum(-1, keepdims=True)
    return best, (top - largest) / kappa - np.log(total)


class Calibration:
    """How a drafter's estimates of log P(accepted | parent accepted) compare with what came of them.

    Kept per drafter, over all sessions. Before anything is known of it half of what it says is believed.
    """

    def __init__(self) -> None:
        self._expected, self._accepted = _PRIOR_TOKENS, 0.5 * _PRIOR_TOKENS

    def add(self, expected: float, accepted: float) -> None:
        """After a step: what it promised of the nodes that were put to the test, their parents being accepted, and how
        many of them were accepted."""
        self._expected = _MEMORY * self._expected + expected
        self._accepted = _MEMORY * self._accepted + accepted

    @property
    def factor(self) -> float:
        return self._accepted / self._expected if self._expected > 0 else 0.0

    @property
    def trust(self) -> float:
        """Logarithm by which its estimates are corrected."""
        return math.log(min(max(self.factor, _LEAST_FACTOR), _LARGEST_FACTOR))


class MovingAverage:
    """An exponential average that starts at its first value."""

    def __init__(self, weight: float = 0.1, initial: float | None = None) -> None:
        self.value, self._weight = initial, weight

    def add(self, sample: float) -> None:
        self.value = sample if self.value is None else self.value + self._weight * (sample - self.value)

    def get(self, default: float) -> float:
        return default if self.value is None else self.value
