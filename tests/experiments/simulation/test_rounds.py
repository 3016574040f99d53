"""Rivals round by round: the closed forms where they hold, and laws where they do not."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import pytest

from paceline.experiments.simulation.acceptance import Profile
from paceline.experiments.simulation.rivals import Alone, Colocated, Draft, Outcomes, Pearl, Rival, Shape
from paceline.experiments.simulation.rounds import Rounds
from paceline.experiments.simulation.workload import Served, requests
from paceline.experiments.specification import WorkloadSpec
from tests.experiments.simulation.clusters import (
    DRAFT_MS,
    STEP_MS,
    TARGET,
    decoding_seconds,
    draft,
    speed,
    tokens_per_step,
)

RIVALS: tuple[Callable[..., Rival], ...] = (Colocated, Pearl, Outcomes)


def serve(rival: Callable[[], Rival], profile: Profile | None, workload: WorkloadSpec, sessions: int) -> list[Served]:
    return Rounds(TARGET, profile, rival).serve(requests(workload, 3), sessions)


def long_ones(rival: Rival, alpha: float) -> list[Served]:
    """50,000 tokens of one session at a time."""
    workload = WorkloadSpec(requests=10, prompt_tokens=10, output_tokens=5000)
    return serve(lambda: rival, Profile.of(alpha), workload, 1)


def test_the_target_alone_takes_what_its_table_says() -> None:
    served = serve(Alone, None, WorkloadSpec(requests=3, prompt_tokens=100, output_tokens=50), 1)
    assert [one.tpot_ms for one in served] == pytest.approx([STEP_MS] * 3)
    assert [one.ttft_ms for one in served] == pytest.approx([100 / 10_000 * 1e3] * 3)
    assert speed(served) == pytest.approx(50 / (49 * STEP_MS / 1e3 + 0.01))


@pytest.mark.parametrize(("alpha", "window", "expected"), [(0.7, 4, 1.735), (0.9, 7, 3.670), (0.95, 10, 5.939)])
def test_pearl_brings_what_its_closed_form_says(alpha: float, window: int, expected: float) -> None:
    rival = Pearl(TARGET, draft(alpha, forward_ms=STEP_MS / window))
    rival.best = lambda sessions: window  # type: ignore[assignment]
    served = long_ones(rival, alpha)
    assert tokens_per_step(served) == pytest.approx(expected, rel=0.02)
    assert decoding_seconds(served) == pytest.approx(sum(one.steps for one in served) * STEP_MS / 1e3)


def test_a_chain_on_the_targets_card_brings_what_leviathans_formula_says() -> None:
    alpha, length = 0.8, 5
    rival = Colocated(TARGET, draft(alpha))
    rival.best = lambda sessions: Shape.best(Profile.of(alpha), length, length, 1)  # type: ignore[assignment]
    served = long_ones(rival, alpha)
    assert tokens_per_step(served) == pytest.approx((1 - alpha ** (length + 1)) / (1 - alpha), rel=0.02)
    per_step = decoding_seconds(served) / sum(one.steps for one in served)
    assert per_step == pytest.approx((STEP_MS + length * DRAFT_MS) / 1e3, rel=0.001)  # less at the end of an answer


def test_an_outcome_cache_brings_what_its_closed_form_says() -> None:
    alpha, length = 0.8, 4
    rival = Outcomes(TARGET, draft(alpha))
    rival.best = lambda sessions: (length, True)  # type: ignore[assignment]
    served = long_ones(rival, alpha)
    assert tokens_per_step(served) == pytest.approx((1 - alpha ** (length + 1)) / (1 - alpha), rel=0.02)
    misses = 1 - rival.hit_rate(length)
    expected = (STEP_MS + misses * length * DRAFT_MS) / 1e3
    assert decoding_seconds(served) / sum(one.steps for one in served) == pytest.approx(expected, rel=0.01)


def test_a_tree_brings_what_it_is_expected_to() -> None:
    profile = Profile.of(0.6)
    shape = Shape.best(profile, 24, 5, len(profile.ranks))
    rival = Colocated(TARGET, draft(0.6))
    rival.best = lambda sessions: shape  # type: ignore[assignment]
    assert tokens_per_step(long_ones(rival, 0.6)) == pytest.approx(shape.expected, rel=0.02)
    assert shape.nodes == 24 == sum(map(len, shape.children))


@pytest.mark.parametrize("rival", RIVALS)
def test_who_is_never_right_is_done_without(rival: Callable[..., Rival]) -> None:
    workload = WorkloadSpec(requests=6, output_tokens=60)
    served = serve(lambda: rival(TARGET, draft(0.0, forward_ms=100.0)), Profile.of(0.0), workload, 2)
    alone = serve(Alone, None, workload, 2)
    assert [(one.first, one.last) for one in served] == [(one.first, one.last) for one in alone]


@pytest.mark.parametrize("sessions", [1, 6])
@pytest.mark.parametrize("rival", RIVALS)
def test_more_acceptance_is_never_slower(rival: Callable[..., Rival], sessions: int) -> None:
    workload = WorkloadSpec(requests=24, output_tokens=100)
    speeds = [
        speed(serve(lambda alpha=alpha: rival(TARGET, draft(alpha)), Profile.of(alpha), workload, sessions))  # type: ignore[misc]
        for alpha in (0.3, 0.5, 0.7, 0.8, 0.9, 0.97)
    ]
    assert all(later > 0.99 * before for before, later in itertools.pairwise(speeds))
    assert speeds[-1] > 1.2 * speeds[0]


@pytest.mark.parametrize("rival", [lambda *_: Alone(), *RIVALS])
@pytest.mark.parametrize("rate", [0.0, 3.0])
def test_every_request_gets_its_tokens(rival: Callable[[object, Draft], Rival], rate: float) -> None:
    workload = WorkloadSpec(requests=40, sessions=5, requests_per_second=rate, output_tokens=40, lengths="exponential")
    served = serve(lambda: rival(TARGET, draft(0.8)), Profile.of(0.8), workload, 0 if rate else 5)
    assert sorted(one.request.index for one in served) == list(range(40))
    assert all(one.tokens == one.request.output_tokens for one in served)
    assert all(one.arrived < one.first <= one.last for one in served)


def test_a_chance_of_one_leaves_nothing_to_divide_by() -> None:
    for rival in RIVALS:
        served = serve(lambda rival=rival: rival(TARGET, draft(1.0)), Profile.of(1.0), WorkloadSpec(requests=2), 1)  # type: ignore[misc]
        assert speed(served) > 2 / STEP_MS * 1e3


def test_a_queue_makes_the_first_token_late() -> None:
    calm, busy = (
        serve(Alone, None, WorkloadSpec(requests=60, requests_per_second=rate, output_tokens=40), 0)
        for rate in (0.2, 50.0)
    )
    assert max(one.ttft_ms for one in busy) > 5 * max(one.ttft_ms for one in calm)
