"""Noise is the same everywhere, lies inside its bounds and is standard Gumbel."""

from __future__ import annotations

import math

import numpy as np
from scipy import stats

from paceline.speculation.noise import NoiseCache, gumbel, mix64, noise_hash, noise_key, uniform

GAMMA, MASK = 0x9E3779B97F4A7C15, (1 << 64) - 1


def splitmix64(seed: int, index: int) -> int:
    """The published generator, one output at a time in Python integers."""
    return mix64((seed + GAMMA * (index + 1)) & MASK)


def test_first_outputs_of_splitmix64_are_the_published_ones() -> None:
    assert [splitmix64(1234567, index) for index in range(3)] == [
        6457827717110365317,
        3203168211198807973,
        9817491932198370423,
    ]


def test_vectorised_hash_equals_python_integers() -> None:
    tokens = np.array([0, 1, 77, 127_999, 2**31])
    for key, position in ((0, 0), (MASK, 4095), (987654321, 17)):
        state = splitmix64(key, position)
        assert noise_hash(key, position, tokens).tolist() == [splitmix64(state, int(token)) for token in tokens]


def test_uniform_never_reaches_its_ends() -> None:
    ends = uniform(np.array([0, MASK], np.uint64))
    assert ends.tolist() == [2.0**-53, 1 - 2.0**-53]
    assert np.isfinite(-np.log(-np.log(ends))).all()


def test_gumbel_formula() -> None:
    tokens = np.arange(5)
    expected = [-math.log(-math.log(float(u))) for u in uniform(noise_hash(3, 4, tokens))]
    np.testing.assert_allclose(gumbel(3, 4, tokens), expected, rtol=1e-14)


def test_noise_is_standard_gumbel_over_tokens_positions_and_keys() -> None:
    """Kolmogorov-Smirnov at 1e-4 for each of three samples, which never change, so neither does the result."""
    samples = (
        gumbel(1, 2, np.arange(100_000)),
        np.array([gumbel(1, position, np.array([5]))[0] for position in range(20_000)]),
        np.array([gumbel(noise_key(seed, 0, [1, 2]), 9, np.array([5]))[0] for seed in range(20_000)]),
    )
    for sample in samples:
        assert stats.kstest(sample, "gumbel_r").pvalue > 1e-4


def test_key_depends_on_seed_choice_and_prompt() -> None:
    keys = {
        noise_key(0, 0, [1]),
        noise_key(1, 0, [1]),
        noise_key(0, 1, [1]),
        noise_key(0, 0, [2]),
        noise_key(0, 0, [1, 0]),
    }
    assert len(keys) == 5
    assert noise_key(0, 0, [1]) == noise_key(0, 0, (1,))


def test_cache_gives_the_same_vectors_after_eviction() -> None:
    cache = NoiseCache(11, 50, capacity=2)
    first = cache.vector(3).copy()
    for position in range(10, 15):
        cache.vector(position)
    np.testing.assert_array_equal(cache.vector(3), first)
    np.testing.assert_array_equal(cache.rows([3, 12])[1], gumbel(11, 12, np.arange(50)))
