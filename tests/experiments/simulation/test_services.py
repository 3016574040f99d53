"""Our own services on simpy's clock: what they must give whatever their policies are."""

from __future__ import annotations

import pytest

from paceline.experiments.simulation.acceptance import Profile
from paceline.experiments.simulation.machines import Machines, Pool
from paceline.experiments.simulation.rivals import Alone
from paceline.experiments.simulation.rounds import Rounds
from paceline.experiments.simulation.services import OFF, SPECULATION, World
from paceline.experiments.simulation.workload import Served, requests
from paceline.experiments.specification import WorkloadSpec
from paceline.speculation.policy import SpeculationParameters
from tests.experiments.simulation.clusters import STEP_MS, TARGET, machines, model, speed

WORKLOAD = WorkloadSpec(requests=10, prompt_tokens=40, output_tokens=80)


def serve(
    there: Machines,
    workload: WorkloadSpec = WORKLOAD,
    sessions: int = 1,
    speculation: SpeculationParameters = SPECULATION,
) -> list[Served]:
    return World(there, speculation).serve(requests(workload, 3), sessions)


def moments(served: list[Served]) -> list[tuple[int, float, float]]:
    return [(one.request.index, one.first, one.last) for one in served]


@pytest.mark.parametrize("sessions", [1, 4])
def test_without_drafters_they_are_the_target_alone(sessions: int) -> None:
    """The rivals' rounds and the services' own steps, two programs, agree to the last bit or so."""
    served, off = serve(machines(), sessions=sessions), serve(machines(model(0.9)), sessions=sessions, speculation=OFF)
    alone = Rounds(TARGET, None, Alone).serve(requests(WORKLOAD, 3), sessions)
    for other in (off, alone):
        assert [one[0] for one in moments(served)] == [one[0] for one in moments(other)]
        assert [x for one in moments(served) for x in one] == pytest.approx([x for one in moments(other) for x in one])
    if sessions == 1:
        assert served[0].tpot_ms == pytest.approx(STEP_MS)


def test_zero_nodes_are_the_target_alone() -> None:
    nothing = SpeculationParameters(max_draft_nodes=0)
    assert speed(serve(machines(model(0.9)), speculation=nothing)) == pytest.approx(speed(serve(machines())))


def test_who_is_never_right_costs_next_to_nothing() -> None:
    workload = WorkloadSpec(requests=4, prompt_tokens=40, output_tokens=400)
    served = serve(machines(Pool("small", "model", Profile((0.0, 0.0)), 4.0)), workload)
    assert speed(served) > 0.97 * speed(serve(machines(), workload))


def test_more_acceptance_is_not_slower() -> None:
    speeds = [speed(serve(machines(model(alpha)))) for alpha in (0.4, 0.6, 0.8, 0.95)]
    assert speeds == sorted(speeds)
    assert speeds[-1] > 2 * speed(serve(machines()))


def test_a_sure_drafter_brings_all_that_a_step_may_take() -> None:
    served = serve(machines(model(1.0, forward_ms=0.5, further=0.0), round_trip_ms=0.0))
    per_step = sum(one.tokens - 1 for one in served) / sum(one.steps for one in served)
    assert 0.6 * (SPECULATION.draft_depth + 1) < per_step <= SPECULATION.draft_depth + 1


@pytest.mark.parametrize("rate", [0.0, 4.0])
def test_every_request_gets_its_tokens_from_several_verifiers_and_one_drafter(rate: float) -> None:
    workload = WorkloadSpec(requests=24, requests_per_second=rate, output_tokens=40, lengths="exponential")
    world = World(machines(model(0.8), replicas=3))
    served = world.serve(requests(workload, 3), 0 if rate else 6)
    assert sorted(one.request.index for one in served) == list(range(24))
    assert all(one.tokens == one.request.output_tokens for one in served)
    assert all(verifier.steps > 0 for verifier in world.verifiers)
    assert not world.told.texts, "texts that are over are let go"


def test_a_longer_wire_is_slower() -> None:
    speeds = [speed(serve(machines(model(0.8), round_trip_ms=rtt))) for rtt in (0.0, 10.0, 40.0)]
    assert speeds == sorted(speeds, reverse=True)


def test_look_ups_beside_a_model_are_used() -> None:
    lookups = Pool("ngram", "ngram", Profile.of(0.5, 0.1), 0.2)
    world = World(machines(lookups))
    assert speed(world.serve(requests(WORKLOAD, 3), 1)) > 1.2 * speed(serve(machines()))
    assert world.drafters[0].busy_seconds > 0
    both = serve(machines(model(0.8), lookups))
    assert speed(both) > 0.9 * speed(serve(machines(model(0.8))))


def test_a_seed_gives_the_same_run_again_and_another_seed_another_one() -> None:
    there = machines(model(0.8))
    assert moments(serve(there, sessions=3)) == moments(serve(there, sessions=3))
    other = World(there).serve(requests(WORKLOAD, 4), 3)
    assert moments(other) != moments(serve(there, sessions=3))


def test_overconfidence_costs_little_as_verifiers_correct_it() -> None:
    honest, boastful = (
        Pool("small", "model", Profile.of(0.7, calibration=calibration), 4.0) for calibration in (1.0, 0.3)
    )
    assert speed(serve(machines(boastful))) > 0.8 * speed(serve(machines(honest)))
