"""The largest few are those that sorting finds, whatever the size."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from paceline.speculation.largest import largest


@pytest.mark.parametrize("size", [1, 7, 31, 32, 33, 64, 100, 256, 1000, 4097])
def test_the_largest_are_those_that_sorting_finds(size: int) -> None:
    values = np.random.default_rng(size).permuted(np.tile(np.arange(size, dtype=np.float32), (5, 1)), axis=-1)
    for count in (1, 8, 200):
        assert largest(values, count).tolist() == np.argsort(-values, axis=-1)[:, :count].tolist()


@given(st.lists(st.sampled_from([-np.inf, 0.0, 1.0, 2.0]), min_size=1, max_size=300), st.integers(1, 40))
def test_ties_and_what_is_cut_off(row: list[float], count: int) -> None:
    """Which of equal numbers is taken is left open; each place is taken once."""
    (found,) = largest(np.array([row]), count)
    assert np.array(row)[found].tolist() == sorted(row, reverse=True)[:count]
    assert len(set(found.tolist())) == min(count, len(row))
