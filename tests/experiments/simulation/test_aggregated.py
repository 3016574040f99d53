"""The fast path is the full path, within three in a hundred, and gives the same figures every time."""

from __future__ import annotations

import pytest

from paceline.experiments.simulation import aggregated
from paceline.experiments.simulation.acceptance import Profile
from paceline.experiments.simulation.aggregated import Aggregated
from paceline.experiments.simulation.machines import Machines, Pool
from paceline.experiments.simulation.services import World
from paceline.experiments.simulation.workload import Served, requests
from paceline.experiments.specification import WorkloadSpec
from tests.experiments.simulation.clusters import machines, model, speed


def fast(there: Machines, workload: WorkloadSpec, sessions: int) -> list[Served]:
    return Aggregated(there, workload, seed=3).serve(requests(workload, 3), sessions)


LOOKUPS = Pool("ngram", "ngram", Profile.of(0.5, 0.2), 0.2)


@pytest.mark.parametrize(
    ("there", "workload"),
    [
        (machines(model(0.8)), WorkloadSpec(requests=60, output_tokens=64)),
        (machines(model(0.7), round_trip_ms=20.0), WorkloadSpec(requests=60, sessions=4, output_tokens=64)),
        (machines(LOOKUPS), WorkloadSpec(requests=60, requests_per_second=1.0, output_tokens=64)),
    ],
)
def test_it_is_the_full_path_within_three_in_a_hundred(
    there: Machines, workload: WorkloadSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Short runs half as long as usual; all cases and at length: ``paceline.experiments.simulation.agreement``."""
    monkeypatch.setattr(aggregated, "LEAST_TOKENS", 6000)
    sessions = 0 if workload.requests_per_second else workload.sessions
    full = World(there).serve(requests(workload, 3), sessions)
    assert speed(fast(there, workload, sessions)) == pytest.approx(speed(full), rel=0.03)


def test_every_request_gets_its_tokens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(aggregated, "LEAST_TOKENS", 0)
    workload = WorkloadSpec(requests=50, requests_per_second=5.0, output_tokens=30, lengths="exponential")
    served = fast(machines(LOOKUPS, replicas=2), workload, 0)
    assert sorted(one.request.index for one in served) == list(range(50))
    assert all(one.tokens == one.request.output_tokens for one in served)


def test_a_seed_gives_the_same_run_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(aggregated, "LEAST_TOKENS", 0)
    workload = WorkloadSpec(requests=30, sessions=2, output_tokens=30)
    first, second = ([one.last for one in fast(machines(LOOKUPS), workload, 2)] for _ in range(2))
    assert first == second
