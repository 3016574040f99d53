"""Log-probabilities: a softmax of the raw logits, and its best tokens in order."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from paceline.speculation.logprobs import token_logprobs


@given(
    row=st.lists(st.integers(-3, 3), min_size=9, max_size=9),
    token=st.integers(0, 8),
    count=st.integers(0, 12),
)
def test_logprobs(row: list[int], token: int, count: int) -> None:
    (found,) = token_logprobs(np.array([row], np.float32), [token], count)
    exact = [value - float(np.log(np.exp(np.array(row, float)).sum())) for value in row]
    assert found.logprob == pytest.approx(exact[token])
    best = sorted(range(9), key=lambda i: (-row[i], i))[:count]
    assert [token_id for token_id, _ in found.top] == best
    assert [logprob for _, logprob in found.top] == pytest.approx([exact[i] for i in best])


def test_large_logits_do_not_overflow() -> None:
    (found,) = token_logprobs(np.array([[1e30, 0.0]], np.float32), [0], 1)
    assert found.logprob == 0.0
