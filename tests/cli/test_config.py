"""``paceline config``: everything wrong at once, and what is shown is what is served."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner, Result

from paceline.cli.main import app
from paceline.cli.services import CONFIGS, Planned, planned_services
from paceline.cluster.local import LocalCluster, http_ports
from paceline.cluster.topology import read_topology
from paceline.embedded import DRAFT, TARGET
from paceline.settings import parse

GOOD: dict[str, Any] = {
    "models": [{"id": "m", "target": str(TARGET), "verifiers": "big", "drafters": ["small", "look"]}],
    "verifiers": {"big": {"replicas": 2, "numerics": "deterministic"}},
    "drafters": {"small": {"kind": "model", "model": str(DRAFT)}, "look": {"kind": "suffix", "memory_tokens": 5000}},
    "gateway": {"grpc": 0, "http": 0},
}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    (tmp_path / "topology.yaml").write_text(yaml.safe_dump(GOOD))
    return tmp_path / "topology.yaml"


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["config", *map(str, arguments)])


# -- check -------------------------------------------------------------------------------------------------------------


def test_a_good_topology_passes(file: Path) -> None:
    result = run("check", file)
    assert (result.exit_code, result.output) == (0, f"{file}: 0 errors, 0 warnings\n")


def test_everything_wrong_is_said_at_once(tmp_path: Path) -> None:
    """Of the file, of what only a service knows to be wrong, and of this machine; each once, and no consequences."""
    file = tmp_path / "topology.yaml"
    file.write_text(
        """
        models: [{id: m, target: /nowhere, verifiers: bg, drafters: [small]}, {id: n, target: a/b, verifiers: big}]
        verifiers: {big: {replica: 2, numerics: exact, price_per_hour: cheap, device: abacus}}
        drafter: {}
        drafters: {small: {model: x}, look: {kind: suffix, memory_tokens: 1}, pace: {kind: ngram, emulate_link: far}}
        gateway: {grpc: 70000, http: 0}
        """
    )
    result = run("check", file)
    assert result.exit_code == 2
    lines = result.output.splitlines()
    errors = [line.removeprefix("error: ").partition(": expected ")[0] for line in lines if line.startswith("error: ")]
    assert errors == [
        "drafter = {}",
        "verifiers.big.replica = 2",
        "verifiers.big.price_per_hour = 'cheap'",
        "drafters.small.kind = None",
        "models.m.verifiers = 'bg'",
        "gateway.grpc = 70000",
        "verifiers.big.device = 'abacus'",
        "models.m.target = '/nowhere'",
        "verifiers.big.numerics = 'exact'",
        "drafters.look.memory_tokens = 1",
        "drafters.pace.emulate_link = 'far'",
    ]
    assert any("did you mean drafters?" in line for line in lines)
    assert any("did you mean replicas?" in line for line in lines)
    warnings = [line for line in lines if line.startswith("warning: ")]
    assert "warning: models.n.target = 'a/b': a hub id, not checked: nothing is downloaded here" in warnings
    assert lines[-1] == f"{file}: {len(errors)} errors, {len(warnings)} warnings"


def test_a_bad_variable_is_an_error_of_the_fleet(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PACELINE_DRAFTER_STALL_SECONDS", "0")
    result = run("check", file)
    assert result.exit_code == 2
    assert result.output.count("error: PACELINE_DRAFTER_STALL_SECONDS = 0.0: expected more than 0") == 1


@pytest.mark.parametrize(("content", "says"), [("- a", "topology = ['a']: expected a mapping"), ("a: [", "YAML (")])
def test_what_is_no_topology_at_all_is_named(tmp_path: Path, content: str, says: str) -> None:
    (tmp_path / "t.yaml").write_text(content)
    result = run("check", tmp_path / "t.yaml")
    assert result.exit_code == 2
    assert says in result.output


# -- show --------------------------------------------------------------------------------------------------------------


def test_every_service_is_shown(file: Path) -> None:
    shown = yaml.safe_load(run("show", file).output)
    assert list(shown) == ["big-0", "big-1", "small", "look", "gateway"]
    assert shown["big-1"]["numerics"] == "deterministic"
    assert shown["look"]["memory_tokens"] == 5000
    assert len(shown["gateway"]["verifiers"]) == len(shown["small"]["verifiers"]) == 2
    assert list(yaml.safe_load(run("show").output)) == ["verifier", "draft", "ngram", "gateway"]


def test_each_gateway_is_shown_with_its_ports_and_the_redis_of_its_own(tmp_path: Path) -> None:
    file = tmp_path / "topology.yaml"
    gateway = {"grpc": 7000, "http": 7010, "replicas": 2}
    file.write_text(
        yaml.safe_dump(
            {**GOOD, "drafters": GOOD["drafters"] | {"look": {"kind": "ngram"}}}
            | {"gateway": gateway, "redis": "embedded"}
        )
    )
    shown = yaml.safe_load(run("show", file).output)
    ports = {name: (shown[name]["port"], shown[name]["http_port"]) for name in ("gateway-0", "gateway-1")}
    assert ports == {"gateway-0": (7000, 7010), "gateway-1": (7001, 7011)}
    assert {settings["redis"] for settings in shown.values()} == {"unix:///redis.sock"}
    assert shown["small"]["models"] == ["m"]
    assert "redis: unix:///redis.sock  # file: redis" in run("show", file, "--worker", "big-0").output


def test_values_say_where_they_come_from(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"CACHE_TOKENS": "4096", "NUMERICS": "standard", "DTYPE": "bfloat16"}.items():
        monkeypatch.setenv(f"PACELINE_VERIFIER_{name}", value)
    lines = run("show", file, "--worker", "big-0").output.splitlines()
    assert f"target: {TARGET}  # file: models.m.target" in lines
    assert "numerics: deterministic  # file: verifiers.big.numerics, not PACELINE_VERIFIER_NUMERICS" in lines
    assert "cache_tokens: 4096  # environment: PACELINE_VERIFIER_CACHE_TOKENS" in lines
    assert "dtype: bfloat16  # environment: PACELINE_VERIFIER_DTYPE" in lines
    assert "name: big-0  # flag: paceline up" in lines
    assert "max_sessions: 256" in lines


@pytest.mark.parametrize("name", ["big-0", "small", "look", "gateway"])
def test_what_is_shown_is_taken_with_config(file: Path, tmp_path: Path, name: str) -> None:
    saved = tmp_path / "worker.yaml"
    saved.write_text(run("show", file, "--worker", name).output)
    (planned,) = [planned for planned in planned_services(read_topology(file)) if planned.name == name]
    config = parse(CONFIGS[planned.service], ["--config", str(saved)], "x", planned.service)
    assert config == planned.resolve().config


def test_what_is_shown_is_what_up_starts(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The very flags, but for ports that are taken only when a worker is there."""
    started: list[tuple[str, str, list[str]]] = []

    def note(cluster: LocalCluster, name: str, module: str, arguments: list[str], port: int = 0) -> str:
        started.append((name, module.removesuffix("_service"), [*arguments, "--port", str(port)]))
        return "127.0.0.1:0"

    monkeypatch.setattr(LocalCluster, "_spawn", note)
    monkeypatch.setattr(LocalCluster, "_reserve_http", lambda cluster: http_ports(cluster.topology.gateway))
    cluster = LocalCluster(read_topology(file), free_ports=False)
    cluster._start()
    cluster._directory.cleanup()
    assert started == [(each.name, each.service, each.arguments) for each in planned_services(read_topology(file))]


def test_mistakes_are_named_instead_of_shown(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    result = run("show", file, "--worker", "smal")
    assert result.exit_code == 2
    assert "worker = 'smal': expected one of big-0, big-1, small, look, gateway (did you mean small?)" in result.output
    monkeypatch.setenv("PACELINE_GATEWAY_COLOUR", "red")
    monkeypatch.setenv("PACELINE_DRAFTER_DTYPE", "int8")
    result = run("show", file)
    assert result.exit_code == 2
    assert "error: PACELINE_GATEWAY_COLOUR = 'red'" in result.output
    assert "error: PACELINE_DRAFTER_DTYPE = 'int8'" in result.output


def test_secrets_are_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    @dataclasses.dataclass(frozen=True)
    class Config:
        signing_key: str = "abc"
        redis: str = "redis://:abc@host"

    from paceline.cli import services

    monkeypatch.setattr(services, "CONFIGS", {"gateway": Config})
    lines = services._settings(Planned("gateway", "gateway", [], {}))
    assert lines == ["signing_key: (redacted)", "redis: redis://:(redacted)@host"]
