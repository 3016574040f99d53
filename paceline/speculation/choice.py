"""Which groups of drafters a session takes: Thompson sampling on emitted tokens per second.

The logarithm of a session's speed is taken for a sum, a base and the gains of the groups that drafted for it. Each
choice draws the gains from what is known of them and takes the groups whose drawn gain is positive, so that a group is
tried as often as it may still be the better choice (Thompson 1933; linear: Agrawal and Goyal 2013, arXiv 1209.3352).
"""

from __future__ import annotations

import math
from collections.abc import Collection, Hashable

import numpy as np

from paceline.speculation.noise import Floats

PRIOR_GAIN, PRIOR_DEVIATION = 0.3, 0.12
"""A new group is expected to help, and is let go only when it has been seen not to."""
BASE_DEVIATION = 10.0
SPEED_DEVIATION = 0.3
"""Of the logarithm of speeds with the same drafters: texts differ."""
MEMORY = 0.99


class _Gains:
    """Bayesian linear regression of log speed on who drafted, in one situation; the first weight is the base."""

    def __init__(self) -> None:
        self._index: dict[str, int] = {}
        self._precision, self._weighted = np.array([[BASE_DEVIATION**-2]]), np.zeros(1)

    def observe(self, groups: Collection[str], speed: float) -> None:
        x = self._features(groups)
        prior_precision, prior_weighted = self._prior()
        self._precision = MEMORY * self._precision + (1 - MEMORY) * prior_precision
        self._weighted = MEMORY * self._weighted + (1 - MEMORY) * prior_weighted
        self._precision += np.outer(x, x) / SPEED_DEVIATION**2
        self._weighted += x * math.log(speed) / SPEED_DEVIATION**2

    def draw(self, groups: Collection[str], random: np.random.Generator) -> dict[str, float]:
        """A gain for each group, as likely as it is by now."""
        self._features(groups)
        covariance = np.linalg.inv(self._precision)
        drawn = random.multivariate_normal(covariance @ self._weighted, covariance, method="cholesky")
        return {group: float(drawn[self._index[group]]) for group in groups}

    def _features(self, groups: Collection[str]) -> Floats:
        for group in sorted(set(groups) - set(self._index)):
            self._index[group] = len(self._index) + 1
        while len(self._weighted) <= len(self._index):
            self._weighted = np.append(self._weighted, PRIOR_GAIN / PRIOR_DEVIATION**2)
            self._precision = np.pad(self._precision, (0, 1))
            self._precision[-1, -1] = PRIOR_DEVIATION**-2
        x = np.zeros(len(self._weighted))
        x[[0, *(self._index[group] for group in groups)]] = 1.0
        return x

    def _prior(self) -> tuple[Floats, Floats]:
        count = len(self._weighted)
        deviations = np.array([BASE_DEVIATION, *[PRIOR_DEVIATION] * (count - 1)])
        return np.diag(deviations**-2.0), np.array([0.0, *[PRIOR_GAIN] * (count - 1)]) * deviations**-2.0


class GroupChoice:
    """What is known of groups, by situation."""

    def __init__(self, seed: int = 0) -> None:
        self._random = np.random.default_rng(seed)
        self._gains: dict[Hashable, _Gains] = {}

    def observe(self, situation: Hashable, groups: Collection[str], tokens_per_second: float) -> None:
        """A session, or a stretch of one, ran at this speed while these groups drafted for it."""
        if tokens_per_second > 0:
            self._gains.setdefault(situation, _Gains()).observe(groups, tokens_per_second)

    def choose(self, situation: Hashable, groups: Collection[str]) -> set[str]:
        """Those of the groups that are to draft."""
        if not groups:
            return set()
        drawn = self._gains.setdefault(situation, _Gains()).draw(groups, self._random)
        return {group for group, gain in drawn.items() if gain > 0}
