"""The formulas against simulation, against published tables, and at their ends."""

from __future__ import annotations

import numpy as np
import pytest

from paceline.experiments import closed_forms as forms


def simulated_pearl(alpha: float, window: int, chains: int = 4000, rounds: int = 1000) -> tuple[float, float]:
    """Tokens and rows of a round, of chains that are drafted, verified and rolled back token by token."""
    draws = np.random.default_rng(7)
    verifying = np.zeros(chains, bool)  # a whole window; else only its first token
    tokens = rows = 0
    for _ in range(rounds):
        accepted = np.minimum(draws.geometric(1 - alpha, chains) - 1, np.where(verifying, window, 1))
        passed = accepted == np.where(verifying, window, 1)
        rows += int(np.where(verifying, window, 1).sum())
        tokens += int((accepted + ~passed).sum())  # a rejected token is replaced by the target's own
        verifying = passed
    return tokens / (chains * rounds), rows / (chains * rounds)


@pytest.mark.parametrize(("alpha", "window", "tokens"), [(0.7, 4, 1.735), (0.9, 7, 3.670), (0.95, 10, 5.939)])
def test_pearl_is_what_its_chain_does(alpha: float, window: int, tokens: float) -> None:
    simulated_tokens, simulated_rows = simulated_pearl(alpha, window)
    assert forms.pearl_tokens(alpha, window) == pytest.approx(tokens, abs=5e-4)
    assert simulated_tokens == pytest.approx(tokens, rel=0.01)
    assert simulated_rows == pytest.approx(forms.pearl_rows(alpha, window), rel=0.01)


def test_pearl_at_its_ends() -> None:
    assert (forms.pearl_tokens(0, 5), forms.pearl_rows(0, 5)) == (1, 1)
    assert (forms.pearl_tokens(1, 5), forms.pearl_rows(1, 5)) == (5, 5)
    assert forms.pearl_tokens(0.8, 500) == pytest.approx(forms.pearl_limit(0.8))
    windows = [forms.pearl_tokens(0.8, window) for window in range(1, 30)]
    assert windows == sorted(windows)


LIMITS = [(0.6, 1.56, 1.55, 2.46), (0.7, 1.96, 1.89, 3.14), (0.8, 2.78, 2.48, 4.16), (0.9, 5.26, 3.67, 5.70)]


@pytest.mark.parametrize(("alpha", "limit", "pearl", "cached"), LIMITS)
def test_tokens_of_a_round_at_window_7(alpha: float, limit: float, pearl: float, cached: float) -> None:
    """As printed to two digits; a cache that never misses emits what the chain does."""
    assert round(forms.pearl_limit(alpha), 2) == limit
    assert round(forms.pearl_tokens(alpha, 7), 2) == pearl
    tokens = forms.chain_tokens(alpha, 7)
    assert round(forms.outcome_cache_speedup(1, tokens, tokens, 0.5, 0.5), 2) == cached


PROPOSITION_2 = {
    100: (47, 144, 265, 319),
    50: (None, 47, 108, 134),
    30: (None, 8, 45, 61),
    20: (None, None, 13, 24),
}


@pytest.mark.parametrize("target_ms", PROPOSITION_2)
def test_break_even_round_trips_to_the_printed_millisecond(target_ms: int) -> None:
    """2606.25091, Prop. 2: window 5, a drafter's step of 10 ms."""
    trips = [forms.remote_break_even_ms(alpha, 5, 10, target_ms) for alpha in (0.5, 0.7, 0.85, 0.9)]
    assert tuple(round(trip) if trip >= 0 else None for trip in trips) == PROPOSITION_2[target_ms]


@pytest.mark.parametrize("alpha", [0.5, 0.7, 0.9])
def test_at_the_break_even_drafting_gains_nothing(alpha: float) -> None:
    trip = forms.remote_break_even_ms(alpha, 5, 10, 50)
    assert forms.lockstep_speedup(alpha, 5, 10, 50, trip) == pytest.approx(1)


def test_outcome_cache_between_drafting_in_turn_and_for_nothing() -> None:
    tokens, ratio = forms.chain_tokens(0.85, 6), 0.6
    in_turn = forms.lockstep_speedup(0.85, 6, 0.1, 1)
    assert forms.outcome_cache_speedup(0, tokens, tokens, ratio, ratio) == pytest.approx(in_turn)
    assert forms.outcome_cache_speedup(1, tokens, tokens, ratio, ratio) == pytest.approx(tokens)
    for hit in (0.0, 0.5, 0.9, 1.0):
        low, high = forms.outcome_cache_bounds(hit, ratio)
        speed = forms.outcome_cache_speedup(hit, tokens, tokens, ratio, ratio) / in_turn
        assert low <= speed * (1 + 1e-9)
        assert speed <= high * (1 + 1e-9)


def test_outcome_cache_waits_for_a_slow_drafter() -> None:
    """Whose drafts take twice the step: also a hit waits for them."""
    assert forms.outcome_cache_speedup(1, 4, 4, 2, 2) == 2


def test_tree_is_worth_the_chances_of_its_nodes() -> None:
    chain = forms.tree_value([-1, 0, 1, 2], [0.8] * 4)
    assert chain == pytest.approx(forms.chain_tokens(0.8, 4))
    assert forms.tree_value([-1, -1, 0], [0.7, 0.2, 0.5]) == pytest.approx(1 + 0.7 + 0.2 + 0.35)
    assert forms.tree_value([], []) == 1


def test_pearl_round_is_of_whoever_takes_longer() -> None:
    assert forms.pearl_round_ms(8, 2, 20, 1) == 21
    assert forms.pearl_round_ms(12, 2, 20, 1) == 24
    assert [forms.pearl_best_window(2.3, 22.5), forms.pearl_best_window(50, 20)] == [10, 1]
