"""Shared noise: one Gumbel variate per (noise key, position, token), the same on every machine.

``h`` is splitmix64 run from a state that depends on key and position; token ``v`` takes its ``v``-th output. Integers
are bit-identical wherever they are computed, the two logarithms agree to a few ulp (DESIGN §5).
"""

from __future__ import annotations

import functools
import hashlib
from collections import OrderedDict
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Hashes = npt.NDArray[np.uint64]

_GAMMA = 0x9E3779B97F4A7C15
_MASK = (1 << 64) - 1


def mix64(x: int) -> int:
    """The finalizer of splitmix64 (Steele et al. 2014) on one integer."""
    x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & _MASK
    return x ^ (x >> 31)


def noise_key(seed: int, choice_index: int, prompt_ids: Sequence[int]) -> int:
    """64 bits that belong to this seed, this choice and this prompt: equal seeds do not correlate other prompts."""
    digest = hashlib.sha256(f"paceline noise 1|{seed & _MASK}|{choice_index}|".encode())
    digest.update(np.asarray(prompt_ids, "<u4").tobytes())
    return int.from_bytes(digest.digest()[:8], "little")


def noise_hash(key: int, position: int, tokens: npt.NDArray[np.integer]) -> Hashes:
    """The 64-bit hashes of ``tokens`` at ``position``."""
    state = mix64((key + _GAMMA * (position + 1)) & _MASK)
    x = np.uint64(state) + np.uint64(_GAMMA) * (tokens.astype(np.uint64) + np.uint64(1))
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def uniform(hashes: Hashes) -> Floats:
    """Strictly between 0 and 1: 52 bits, centred in their cells (with 53 the largest would round to 1)."""
    return ((hashes >> np.uint64(12)).astype(np.float64) + 0.5) * 2.0**-52


def gumbel(key: int, position: int, tokens: npt.NDArray[np.integer]) -> Floats:
    """Standard Gumbel variates of ``tokens`` at ``position``; float64, the shape of ``tokens``."""
    noise = uniform(noise_hash(key, position, tokens))
    np.log(noise, out=noise)
    np.negative(noise, out=noise)
    np.log(noise, out=noise)
    return np.negative(noise, out=noise)


@functools.lru_cache(maxsize=8)
def _all_tokens(vocabulary_size: int) -> Hashes:
    return np.arange(vocabulary_size, dtype=np.uint64)


class NoiseCache:
    """Whole-vocabulary noise of the positions that a session is working on.

    All rows at one depth of a tree share a position, and a position returns in the next step when it was not reached
    in this one, so that about one vector is computed per emitted token, not one per row.
    """

    def __init__(self, key: int, vocabulary_size: int, capacity: int = 24) -> None:
        self.key = key
        self._tokens = _all_tokens(vocabulary_size)
        self._vectors: OrderedDict[int, Floats] = OrderedDict()
        self._capacity = capacity

    def vector(self, position: int) -> Floats:
        """float64 ``[vocabulary]``; not to be written to."""
        found = self._vectors.get(position)
        if found is None:
            found = self._vectors[position] = gumbel(self.key, position, self._tokens)
            if len(self._vectors) > self._capacity:
                self._vectors.popitem(last=False)
        return found

    def rows(self, positions: Sequence[int]) -> Floats:
        """float64 ``[len(positions), vocabulary]``."""
        return np.stack([self.vector(position) for position in positions])
