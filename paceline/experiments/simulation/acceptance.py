"""What the target says, and which of a drafter's guesses would have been that: settled before anybody drafts.

For each session and position one draw says at which rank a drafter has the target's token among its children. It is a
function of seed, session and position alone: every system and every drafter meets the same text.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from paceline.speculation.fields import require
from paceline.speculation.noise import mix64, noise_hash, uniform

VOCABULARY = 1 << 16
NO_RANK = 0
"""None of a drafter's children is the target's token."""
FURTHER = 0.4
"""Of what the children before it have missed, each further child has such a share: a planning value."""
RANKS = 6
_TOKEN, _RANK, _START = range(3)


@dataclass(frozen=True)
class Profile:
    """How a drafter's children fare below an accepted node.

    ``ranks`` are the chances that its first, second, … child is the target's token, at most 1 together. ``calibration``
    is what a drafter makes of them: it says ``p ** calibration``; 1 is honest, less is overconfident. ``runs``: lengths
    of accepted runs as recorded, one after the other; empty: every position is like any other.
    """

    ranks: tuple[float, ...]
    calibration: float = 1.0
    runs: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        right = bool(self.ranks) and all(0 <= rank <= 1 for rank in self.ranks) and sum(self.ranks) <= 1 + 1e-9
        require(right, "ranks", self.ranks, "chances from 0 to 1, at most 1 together")

    @classmethod
    def of(
        cls, alpha: float, further: float = FURTHER, calibration: float = 1.0, runs: tuple[int, ...] = ()
    ) -> Profile:
        """From the chance of the first child; each further one has a share of what is missed still."""
        require(0 <= alpha <= 1, "alpha", alpha, "0 to 1")
        ranks, missed = [alpha], 1 - alpha
        for _ in range(RANKS - 1):
            ranks.append(missed * further)
            missed *= 1 - further
        return cls(tuple(ranks), calibration, runs)

    @property
    def alpha(self) -> float:
        return self.ranks[0]

    def said(self, width: int) -> list[float]:
        """log P(accepted | parent accepted) of the first ``width`` children, as the drafter has it."""
        return [math.log(p) * self.calibration if p > 0 else -math.inf for p in self.ranks[:width]]

    def draw(self, key: int, length: int) -> list[int]:
        """The rank at each of ``length`` positions."""
        draws = uniform(_hashes(key, _RANK, length))
        bounds = np.cumsum(self.ranks)
        if self.runs:
            missed = _misses(self.runs, mix64(key ^ _START), length)
            draws = np.where(missed, self.alpha + draws * (1 - self.alpha), 0.0)
        ranks = np.searchsorted(bounds, draws, side="right") + 1
        return np.where(ranks > len(self.ranks), NO_RANK, ranks).tolist()  # type: ignore[no-any-return]


class Text:
    """One session's answer: what the target says at each position, whoever drafts."""

    def __init__(self, key: int, length: int) -> None:
        """Positions 0 to ``length``; those of the prompt are part of it."""
        self.key, self.length = key, length
        self.tokens: list[int] = (_hashes(key, _TOKEN, length) % VOCABULARY).tolist()
        self._ranks: dict[Profile, list[int]] = {}

    def ranks(self, profile: Profile) -> list[int]:
        """At each position the rank that the target's token has among the children of a drafter of this profile.

        Drafters' draws are one: what is hard for one is hard for all, and two of the same profile guess alike.
        """
        found = self._ranks.get(profile)
        if found is None:
            found = self._ranks[profile] = profile.draw(self.key, self.length)
        return found


def wrong_token(position: int, parent_token: int, salt: int, truth: int) -> int:
    """A token that is not the target's."""
    token = ((position * 0x9E37 ^ parent_token * 0x85EB ^ salt * 0xC2B3) * 0x27D5 >> 7) % VOCABULARY
    return token if token != truth else (token + 1) % VOCABULARY


def _hashes(key: int, kind: int, length: int) -> npt.NDArray[np.uint64]:
    return noise_hash(key, kind, np.arange(length, dtype=np.uint64))


def _misses(runs: Sequence[int], start: int, length: int) -> npt.NDArray[np.bool_]:
    """Which positions end a run, from a place in the record that ``start`` chooses on, around and around."""
    missed = np.zeros(length, bool)
    position = 0
    for run in itertools.islice(itertools.cycle(runs), start % len(runs), None):
        position += run
        if position >= length:
            return missed
        missed[position] = True
        position += 1
    return missed
