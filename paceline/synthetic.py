"""Experimental: a text that nobody computes, and drafters that are right about it as often as they are told to be.

What the target says at each position, and at which rank a drafter has that among its children, are functions of the
noise key and the position. Verifier and drafters know the key, so both know the text before anybody drafts, and every
system and every drafter meets the same one. A drafter never uses what it knows but to be right so often.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from paceline.emulation import SyntheticAcceptance
from paceline.speculation.fields import require
from paceline.speculation.noise import Floats, mix64, noise_hash, uniform
from paceline.speculation.tree import Node, Selection

FIRST_TOKEN, TOKENS = 256, 2048
"""Tokens of such texts: past the special ones of usual vocabularies."""
NO_RANK = 0
"""None of a drafter's children is the target's token."""
FURTHER = 0.4
"""Of what the children before it have missed, each further child has such a share: a planning value."""
RANKS = 6
TEXT = "text"
"""As acceptance of a verifier: it says such a text."""
_TOKEN, _RANK, _START = range(3)
_BLOCK = 512


class SyntheticText:
    """What is said at each position of a session, the prompt's left out of account."""

    def __init__(self, key: int) -> None:
        self.key = key
        self._tokens: list[int] = []
        self._draws: list[float] = []

    def token(self, position: int) -> int:
        """What the target says there."""
        self._reach(position)
        return self._tokens[position]

    def draw(self, position: int) -> float:
        """Strictly between 0 and 1: which rank the target's token has there, the same for all drafters: what is hard
        for one is hard for all."""
        self._reach(position)
        return self._draws[position]

    def _reach(self, position: int) -> None:
        while len(self._tokens) <= position:
            block = np.arange(len(self._tokens), len(self._tokens) + _BLOCK, dtype=np.uint64)
            self._tokens += (FIRST_TOKEN + noise_hash(self.key, _TOKEN, block) % np.uint64(TOKENS)).tolist()
            self._draws += uniform(noise_hash(self.key, _RANK, block)).tolist()


@functools.lru_cache(maxsize=1024)
def text_of(key: int) -> SyntheticText:
    """By noise key; those asked for last are kept."""
    return SyntheticText(key)


def wrong_token(position: int, parent_token: int, salt: int, truth: int) -> int:
    """A token that is not the target's."""
    token = FIRST_TOKEN + mix64((position << 40) ^ (parent_token << 20) ^ salt) % TOKENS
    return token if token != truth else FIRST_TOKEN + (token - FIRST_TOKEN + 1) % TOKENS


@dataclass(frozen=True)
class SyntheticDrafts:
    """How often a drafter is right.

    ``rates`` are the chances, at depth 1, 2, … below its root, that its first child is the target's token where the
    parent is; the last one holds for all deeper levels. (vLLM's ``synthetic_acceptance_rates`` are those of whole
    paths: each of ours is the ratio of two of them.) Each further child has a share ``further`` of what the ones before
    it have missed. ``runs``: lengths of accepted runs as recorded, one after the other, each followed by a miss, in the
    place of draws; empty: every position is like any other.
    """

    rates: tuple[float, ...]
    further: float = FURTHER
    runs: tuple[int, ...] = ()

    @classmethod
    def parse(cls, text: str, field: str = "emulate_acceptance") -> SyntheticDrafts | None:
        """``0.9``, ``0.9,0.8,further=0.3`` or ``trace=FILE``, which has lengths of runs; nothing for an empty text."""
        if not text:
            return None
        rates, runs, further = list[float](), tuple[int, ...](), FURTHER
        expected = "chances from 0 to 1 by depth, or trace=FILE with lengths of runs; and further=, 0 to 1"
        for word in text.split(","):
            name, _, value = word.rpartition("=")
            require(name in ("", "further", "trace"), field, text, expected)
            if name == "trace":
                runs = _read_runs(field, Path(value))
                rates.append(sum(runs) / (sum(runs) + len(runs)))
                continue
            chance = _chance(value)
            require(0 <= chance <= 1, field, text, expected)
            if name:
                further = chance
            else:
                rates.append(chance)
        require(bool(rates) and (not runs or len(rates) == 1), field, text, expected)
        return cls(tuple(rates), further, runs)

    def said(self, depth: int, width: int) -> Sequence[float]:
        """log P(accepted | parent accepted) of the first ``width`` children at this depth, best first: an honest
        estimate."""
        return [math.log(chance) if chance > 0 else -math.inf for chance in self._ranks(depth)[:width]]

    def rank(self, text: SyntheticText, position: int, depth: int) -> int:
        """Of the target's token at ``position`` among the children that are grown at this depth."""
        draw, ranks = text.draw(position), self._ranks(depth)
        if self.runs:  # the recorded run says whether the first child is right, the draw which one is, if not that
            if not _misses(self.runs, text.key, position):
                return 1
            draw = ranks[0] + draw * (1 - ranks[0])
        for rank, bound in enumerate(itertools.accumulate(ranks), 1):
            if draw < bound:
                return rank
        return NO_RANK

    def _ranks(self, depth: int) -> list[float]:
        rate = self.rates[min(depth, len(self.rates)) - 1]
        missed, ranks = 1 - rate, [rate]
        for _ in range(RANKS - 1):
            ranks.append(missed * self.further)
            missed *= 1 - self.further
        return ranks


class SyntheticChoices(Protocol):
    """What a target says in the place of its own choices."""

    def choice(self, own: Callable[[int], int], selection: Selection, root: Node, key: int) -> Callable[[int], int]:
        """After each row of a step; ``own`` is what the model would say, ``key`` the session's noise key."""
        ...


class SyntheticTarget:
    """In the place of the target's choices: its session's text."""

    def choice(self, own: Callable[[int], int], selection: Selection, root: Node, key: int) -> Callable[[int], int]:
        """What is said after each row of a step; only rows on the text are ever asked about."""
        text = text_of(key)
        return lambda row: text.token((selection.nodes[row - 1] if row else root).position + 1)


def synthetic_choices(text: str) -> SyntheticChoices | None:
    """``text``, or rates as ``SyntheticAcceptance`` has them; nothing for an empty text."""
    return SyntheticTarget() if text == TEXT else SyntheticAcceptance.parse(text)


def check_vocabulary(size: int) -> None:
    """Raises ``FieldError`` for a target that does not have the tokens."""
    least = FIRST_TOKEN + TOKENS
    require(size >= least, "emulate_acceptance", TEXT, f"rates: a target for {TEXT} has {least} tokens, not {size}")


def _chance(value: str) -> float:
    try:
        return float(value)
    except ValueError:
        return math.nan


def _read_runs(field: str, file: Path) -> tuple[int, ...]:
    try:
        runs = tuple(int(word) for word in file.read_text(encoding="utf-8").split())
    except (OSError, ValueError):
        runs = ()
    right = bool(runs) and min(runs) >= 0
    require(right, field, f"trace={file}", "a file of whole numbers, 0 or more: lengths of accepted runs, one a line")
    return runs


def _misses(runs: tuple[int, ...], key: int, position: int) -> bool:
    """Whether a run ends at a position, from a place in the record that the key chooses on, around and around."""
    start, lengths = mix64(key ^ _START) % len(runs), _ends(runs)
    whole = int(lengths[-1])
    before = int(lengths[start - 1]) if start else 0
    return bool(np.isin((before + position) % whole, lengths - 1))


@functools.lru_cache(maxsize=8)
def _ends(runs: tuple[int, ...]) -> Floats:
    """One past the miss that follows each run."""
    return np.cumsum(np.asarray(runs, np.float64) + 1)
