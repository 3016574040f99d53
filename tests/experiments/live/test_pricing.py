"""A fleet costs what its topology says; without one what its drafters and the specification do. Never guessed."""

from __future__ import annotations

import pytest

from paceline.cluster.topology import DrafterPool, ModelRoute, Topology, VerifierPool
from paceline.errors import Unavailable
from paceline.experiments.live.pricing import Fleet, fleet_of
from paceline.experiments.specification import TargetSpec
from paceline.experiments.tables import prices
from paceline.messages import Worker
from paceline.speculation.fields import FieldError

TARGET = TargetSpec("m", "H200", tensor_parallel=2)
TOPOLOGY = Topology(
    models=(ModelRoute("m", "somewhere", "big", ("spot", "cpu")),),
    verifiers={"big": VerifierPool(replicas=2, price_per_hour=7.0), "unused": VerifierPool(price_per_hour=99.0)},
    drafters={
        "spot": DrafterPool("model", "draft", replicas=2, price_per_hour=0.4),
        "cpu": DrafterPool("ngram", price_per_hour=0.1),
        "unused": DrafterPool("suffix", price_per_hour=99.0),
    },
)


def worker(name: str, role: str, kind: str, price: float = 0.0, *, healthy: bool = True) -> Worker:
    return Worker(name, role, kind, "", healthy, "m", price, 0, 8)


THERE = [
    worker("v0", "verifier", "target"),
    worker("v1", "verifier", "target"),
    worker("d0", "drafter", "model", 0.5),
    worker("d1", "drafter", "model", 0.6),
    worker("n", "drafter", "ngram", 0.2),
]


def fleet(workers: list[Worker], topology: Topology | None = None, target: TargetSpec = TARGET) -> Fleet:
    return fleet_of(workers, target, prices(), topology)


def test_without_a_topology_drafters_cost_what_they_say_and_the_target_what_is_specified() -> None:
    found, card = fleet(THERE), prices()["H200"]
    assert [drafter.name for drafter in found.lookups] == ["n"]
    for price in ("low", "mid", "high"):
        assert found.dollars_per_hour(())[price] == pytest.approx(4 * card[price])
        assert found.dollars_per_hour(found.drafters)[price] == pytest.approx(4 * card[price] + 1.3)
    own = fleet(THERE, target=TargetSpec("m", "H200", 2, price_per_hour=1.0))
    assert own.dollars_per_hour(()) == {"low": 4.0, "mid": 4.0, "high": 4.0}


def test_a_topology_says_what_all_of_it_costs() -> None:
    found = fleet(THERE, TOPOLOGY)
    assert found.dollars_per_hour(()) == {"low": 14.0, "mid": 14.0, "high": 14.0}
    assert found.dollars_per_hour(found.drafters)["mid"] == pytest.approx(14.0 + 2 * 0.4 + 0.1)
    assert found.dollars_per_hour(found.lookups)["mid"] == pytest.approx(14.1)


def test_a_topology_of_another_fleet_is_refused_with_every_difference() -> None:
    with pytest.raises(FieldError) as caught:
        fleet([*THERE[1:3], worker("r", "drafter", "rag")], TOPOLOGY)
    assert [str(error) for error in caught.value.errors] == [
        "topology = '2 verifiers': expected 1, as the fleet has them",
        "topology = '2 drafters of kind model': expected 1, as the fleet has them",
        "topology = '1 drafters of kind ngram': expected 0, as the fleet has them",
        "topology = '0 drafters of kind rag': expected 1, as the fleet has them",
    ]


def test_who_is_not_healthy_is_not_there() -> None:
    with pytest.raises(Unavailable, match="no healthy verifier"):
        fleet([worker("v0", "verifier", "target", healthy=False), *THERE[2:]])
