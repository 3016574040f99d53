"""A workload put to a fleet that is there: all modes, at what the topology says it costs."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from paceline.client import GatewayClient
from paceline.cluster.local import LocalCluster
from paceline.cluster.topology import DrafterPool, GatewayPool, ModelRoute, Topology, VerifierPool
from paceline.embedded import DRAFT, TARGET
from paceline.experiments.live.measurement import IN_TURN, Measuring, Texts, check_sweep
from paceline.experiments.results import Instrument, Row, System
from paceline.experiments.specification import Experiment, TargetSpec, WorkloadSpec
from paceline.experiments.sweeps import configurations
from paceline.experiments.tables import prices
from paceline.speculation.fields import FieldError

TOPOLOGY = Topology(
    models=(ModelRoute("m", str(TARGET), "big", ("small", "look")),),
    verifiers={"big": VerifierPool(price_per_hour=6.0)},
    drafters={
        "small": DrafterPool("model", str(DRAFT), price_per_hour=0.5),
        "look": DrafterPool("ngram", price_per_hour=0.25),
    },
    gateway=GatewayPool(http=-1),
)
EXPERIMENT = Experiment(
    "test",
    TargetSpec("Llama-3.1-70B", "H200", 2),
    workload=WorkloadSpec(requests=2, output_tokens=12),
    sweep={"workload.sessions": (1, 2)},
)
TOLD: list[None] = []


@pytest.fixture(scope="module")
def rows() -> list[Row]:
    async def collect() -> list[Row]:
        async with LocalCluster(TOPOLOGY) as cluster, GatewayClient(cluster.gateway_address) as client:
            measuring = Measuring(client, prices(), TOPOLOGY).heard_by(lambda: TOLD.append(None))
            return [row async for found in measuring.rows(list(configurations(EXPERIMENT))) for row in found]

    return asyncio.run(collect())


def test_every_configuration_is_asked_in_every_mode(rows: list[Row]) -> None:
    systems = [System.ALONE, System.COLOCATED, System.TREES, System.LOOKUPS]
    assert [(row.settings["workload.sessions"], row.system) for row in rows] == [
        (sessions, system) for sessions in (1, 2) for system in systems
    ]
    assert all(row.instrument is Instrument.MEASURED for row in rows)
    assert len(TOLD) == 8 * EXPERIMENT.workload.requests
    for row in rows:
        assert row.requests == 2
        assert "failed" not in row.notes
        rounding = 0.0005 * row.tokens_per_second  # seconds are told to the millisecond
        assert abs(row.tokens_per_second * float(row.notes["seconds"]) - 24) <= rounding * 1.01
        assert row.tokens_per_step >= 1.0


def test_modes_are_what_their_systems_say(rows: list[Row]) -> None:
    for alone, in_turn, _, lookups in (rows[:4], rows[4:]):
        assert alone.tokens_per_step == 1.0
        assert in_turn.notes["stands_for"] == IN_TURN
        assert (alone.notes["drafters"], lookups.notes["drafters"]) == ("none", "look")


def test_all_who_draft_are_paid_for_as_the_topology_says(rows: list[Row]) -> None:
    dollars = [row.dollars_per_hour["mid"] for row in rows[:4]]
    assert dollars == [6.0, 6.75, 6.75, 6.25]
    assert all(row.notes["priced_by"] == "topology" for row in rows)


def test_a_fleet_cannot_be_swept_but_what_is_asked_of_it_can() -> None:
    check_sweep(EXPERIMENT)
    swept = Experiment(
        "test", EXPERIMENT.target, sweep={"network.round_trip_ms": (1, 2), "slo.tpot_ms": (1,), "target.replicas": (2,)}
    )
    with pytest.raises(FieldError) as caught:
        check_sweep(swept)
    assert [error.field for error in caught.value.errors] == ["sweep.network.round_trip_ms", "sweep.target.replicas"]


def test_prompts_are_lines_of_a_file(tmp_path: Path) -> None:
    file = tmp_path / "prompts.txt"
    file.write_text("one\n\ntwo three\n")
    assert Texts.read(file) == Texts(("one", "two three"), "prompts.txt")
    file.write_text("\n")
    with pytest.raises(FieldError, match="a file with a prompt on each line"):
        Texts.read(file)
    with pytest.raises(FieldError, match="a file that can be read"):
        Texts.read(tmp_path / "none")
