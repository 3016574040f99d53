"""How prefill is shared out."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from paceline.speculation.schedule import OLDEST_SHARE, share_prefill

PROMPTS = st.lists(st.integers(1, 4000), max_size=30)


@given(PROMPTS, st.integers(1, 1000))
def test_the_budget_is_used_and_not_exceeded(remaining: list[int], budget: int) -> None:
    shares = share_prefill(remaining, budget)
    assert all(0 <= share <= left for share, left in zip(shares, remaining, strict=True))
    assert sum(shares) == min(budget, sum(remaining))


@given(PROMPTS.filter(bool), st.integers(1, 1000))
def test_the_oldest_always_gets_on(remaining: list[int], budget: int) -> None:
    assert share_prefill(remaining, budget)[0] >= min(remaining[0], max(1, budget // OLDEST_SHARE))


def test_a_short_prompt_is_not_held_up_by_long_ones() -> None:
    assert share_prefill([3000, 2000, 10, 50], 256) == [64, 132, 10, 50]


def test_nothing_to_share() -> None:
    assert share_prefill([], 256) == []
