"""What a topology comes to on a Ray cluster."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from drafter_service.config import DrafterConfig
from gateway.config import GatewayConfig
from paceline.cli.main import app
from paceline.cluster.ray.spec import WorkerSpec, scaled, workers_of
from paceline.cluster.topology import DrafterPool, GatewayPool, ModelRoute, Topology, VerifierPool
from paceline.errors import FieldError
from paceline.settings import resolve
from verifier_service.config import VerifierConfig

TOPOLOGY = Topology(
    models=(ModelRoute("m", "org/target", "big", ("small", "lookup")),),
    verifiers={"big": VerifierPool(2, cpus=4)},
    drafters={
        "small": DrafterPool("model", "org/draft", replicas=2, cpus=2.5),
        "lookup": DrafterPool("ngram", cpus=0.5),
        "unused": DrafterPool("ngram"),
    },
    gateway=GatewayPool(replicas=2, http=-1),
    redis="redis://cache/0",
)
CONFIGS: dict[str, type[Any]] = {"verifier": VerifierConfig, "drafter": DrafterConfig, "gateway": GatewayConfig}


def named(topology: Topology) -> dict[str, WorkerSpec]:
    return {spec.name: spec for spec in workers_of(topology)}


def test_every_worker_of_a_pool_that_a_model_names_has_flags_that_its_service_takes() -> None:
    specs = named(TOPOLOGY)
    assert set(specs) == {"big-0", "big-1", "small-0", "small-1", "lookup-0", "gateway-0", "gateway-1"}
    for spec in specs.values():
        config = resolve(CONFIGS[spec.role], spec.arguments, spec.name, spec.role).config
        assert (config.name, config.redis) == (spec.name, "redis://cache/0")


def test_threads_are_what_a_worker_has_of_its_node() -> None:
    arguments = {name: list(spec.arguments) for name, spec in named(TOPOLOGY).items()}
    assert [words[words.index("--threads") + 1] for words in (arguments["big-0"], arguments["small-0"])] == ["4", "2"]
    assert "--threads" not in arguments["lookup-0"]


def test_gateways_have_ports_of_their_own() -> None:
    specs = named(TOPOLOGY)
    assert [(specs[name].port, specs[name].http_port) for name in ("gateway-0", "gateway-1")] == [
        (50051, -1),
        (50052, -1),
    ]


@pytest.mark.parametrize("pool", ["small", "drafters.small"])
def test_scaling_adds_or_takes_away_the_last_ones_and_leaves_all_others_as_they_were(pool: str) -> None:
    more, fewer = named(scaled(TOPOLOGY, pool, 3)), named(scaled(TOPOLOGY, pool, 1))
    assert more.keys() - named(TOPOLOGY).keys() == {"small-2"}
    assert named(TOPOLOGY).keys() - fewer.keys() == {"small-1"}
    assert all(named(TOPOLOGY)[name] == spec for name, spec in fewer.items())
    assert named(scaled(TOPOLOGY, pool, 0)).keys() & {"small-0"} == set()


def test_what_cannot_be_scaled_is_named() -> None:
    with pytest.raises(FieldError, match=r"pool = 'bog': expected one of verifiers\.big, drafters\.small"):
        scaled(TOPOLOGY, "bog", 1)
    with pytest.raises(FieldError, match=r"gateway\.replicas = 0"):
        scaled(TOPOLOGY, "gateway", 0)
    twice = replace(TOPOLOGY, drafters={**TOPOLOGY.drafters, "big": DrafterPool("ngram")})
    with pytest.raises(FieldError, match="pool = 'big'"):
        scaled(twice, "big", 1)
    assert scaled(twice, "verifiers.big", 1).verifiers["big"].replicas == 1


def test_certificates_are_made_out_to_the_names_that_workers_have_here(tmp_path: Path) -> None:
    """One for each replica, by number, also of a pool of one: the next ones are added without renaming anybody."""
    topology = replace(TOPOLOGY, tls=str(tmp_path / "certs"))
    file = tmp_path / "topology.yaml"
    file.write_text(json.dumps(asdict(topology)))
    certs = ["certs", "init", str(tmp_path / "certs"), "--topology", str(file), "--on", "ray", "--hosts", "127.0.0.1"]
    made = CliRunner().invoke(app, certs)
    assert made.exit_code == 0, made.output
    for name, spec in named(topology).items():
        config = resolve(CONFIGS[spec.role], spec.arguments, name, spec.role).config
        assert config.tls_cert == tmp_path / "certs" / spec.role / f"{name}.pem"  # whose role was checked
