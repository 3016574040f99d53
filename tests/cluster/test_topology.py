"""Topologies: what the design page shows is read, everything else is named."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from drafter_service.config import DrafterConfig
from paceline.cluster.local import (
    FLEETS_DRAFTER_KEYS,
    FLEETS_VERIFIER_KEYS,
    common_arguments,
    drafter_arguments,
    grpc_ports,
    http_ports,
)
from paceline.cluster.topology import DrafterPool, GatewayPool, VerifierPool, emulated, parse_topology, read_topology
from paceline.settings import parse
from paceline.speculation.fields import FieldError
from verifier_service.config import VerifierConfig

GOOD = """
models:    [{id: m, target: PATH, verifiers: big, drafters: [small, lookup]}]
verifiers: {big: {replicas: 1, device: cuda, accelerator: H100, price_per_hour: 7}}
drafters:  {small: {kind: model, model: PATH, replicas: 2, device: cuda, accelerator: L4, price_per_hour: 0.75},
            lookup: {kind: ngram, replicas: 1, device: cpu}}
gateway:   {http: 8000, grpc: 50051, replicas: 1}
redis:     null
"""


def good() -> dict[str, Any]:
    return dict(yaml.safe_load(GOOD))


def test_a_whole_topology(tmp_path: Path) -> None:
    (tmp_path / "t.yaml").write_text(GOOD)
    topology = read_topology(tmp_path / "t.yaml")
    assert topology.models[0].drafters == ("small", "lookup")
    assert topology.verifiers["big"].price_per_hour == 7.0
    assert topology.drafters["small"].replicas == 2


@pytest.mark.parametrize(
    ("path", "value", "says"),
    [
        (["colour"], "red", "colour = 'red': expected one of the keys models"),
        (["verifiers", "big", "replica"], 2, "verifiers.big.replica = 2"),
        (["verifiers", "big", "replicas"], "two", "verifiers.big.replicas = 'two': expected a whole number"),
        (["verifiers", "big", "tensor_parallel_size"], 2, "tensor_parallel_size = 2"),
        (["drafters", "small", "price_per_hour"], "cheap", "drafters.small.price_per_hour"),
        (["drafters", "small"], {"model": "x"}, "drafters.small.kind = None: expected a value"),
        (
            ["drafters", "small", "gpus"],
            1.5,
            "drafters.small.gpus = 1.5: expected a share of one GPU, or a whole number",
        ),
        (["drafters", "small", "gpus"], 0, "drafters.small.gpus = 0"),
        (["verifiers", "big", "cpus"], -1, "verifiers.big.cpus = -1.0: expected 0 or more"),
        (["models"], [], "models = []: expected at least one model"),
        (["models"], [{"id": "m", "target": "x", "verifiers": "none"}], "models.m.verifiers = 'none'"),
        (
            ["gateway"],
            {"grpc": 8000, "http": 8002, "replicas": 3},
            "gateway.http = 8002: expected another port than that",
        ),
        (["gateway"], {"grpc": 65535, "replicas": 2}, "gateway.grpc = 65535: expected 0 to 65534"),
        (["gateway", "replicas"], 0, "gateway.replicas = 0: expected at least 1"),
        (["redis"], "localhost:6379", "redis = 'localhost:6379': expected redis://HOST"),
        (["redis"], 6379, "redis = 6379: expected a string or null"),
        (["telemetry"], {"otlp": "collector:4317"}, "telemetry.otlp = 'collector:4317': expected an URL"),
        (["telemetry"], {"trace_ratio": 2}, "telemetry.trace_ratio = 2.0: expected 0 to 1"),
        (["telemetry"], {"metric_names": "sglang"}, "telemetry.metric_names = 'sglang': expected paceline or vllm"),
        (["telemetry"], {"traces": 1}, "telemetry.traces = 1: expected one of the keys otlp"),
        (["telemetry"], "on", "telemetry = 'on': expected a mapping"),
    ],
)
def test_mistakes_are_named(path: list[str], value: object, says: str) -> None:
    data = good()
    place: dict[str, Any] = data
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    with pytest.raises(FieldError) as caught:
        parse_topology(data)
    assert says in str(caught.value)


def test_with_redis_suffix_drafters_need_a_tokenizer() -> None:
    data = {**good(), "redis": "redis://localhost/1"}
    assert parse_topology(data).redis == "redis://localhost/1"
    data["drafters"]["lookup"] = {"kind": "suffix"}
    with pytest.raises(FieldError, match=r"drafters\.lookup\.tokenizer = ''"):
        parse_topology(data)
    data["drafters"]["lookup"]["tokenizer"] = "PATH"
    assert parse_topology(data).drafters["lookup"].tokenizer == "PATH"


def test_gateways_have_the_next_ports() -> None:
    data = {**good(), "gateway": {"grpc": 8000, "http": 8002, "replicas": 2}, "redis": "embedded"}
    pool = parse_topology(data).gateway
    assert (grpc_ports(pool), http_ports(pool)) == ([8000, 8001], [8002, 8003])
    pool = GatewayPool(grpc=0, http=-1, replicas=2)
    assert (grpc_ports(pool), http_ports(pool)) == ([0, 0], [-1, -1])


def test_broken_yaml_and_missing_files(tmp_path: Path) -> None:
    (tmp_path / "t.yaml").write_text("models: [")
    with pytest.raises(FieldError, match="YAML"):
        read_topology(tmp_path / "t.yaml")
    with pytest.raises(FieldError, match="expected a file"):
        read_topology(tmp_path / "none.yaml")


def test_emulation_goes_to_the_workers_that_it_is_for() -> None:
    topology = emulated(parse_topology(good()), "draft=4ms,target=40ms,per_row=0.1ms", "rtt=5ms")
    assert topology.verifiers["big"].emulate_step_time == "40ms,per_row=0.1ms"
    drafters = {name: (pool.emulate_step_time, pool.emulate_link) for name, pool in topology.drafters.items()}
    assert drafters == {"small": ("4ms", "rtt=5ms"), "lookup": ("", "rtt=5ms")}
    assert emulated(topology, "", "") == topology


@pytest.mark.parametrize(
    ("step_time", "link", "says"),
    [
        ("40ms", "", "emulate_step_time = '40ms': expected draft="),
        ("draft=4ms,color=red", "", "emulate_step_time"),
        ("per_row=1ms", "", "expected target=… with per_row=…"),
        ("draft=soon", "", "'soon'"),
        ("", "rtt=far", "'far'"),
    ],
)
def test_bad_emulation_is_named(step_time: str, link: str, says: str) -> None:
    with pytest.raises(FieldError, match=re.escape(says)):
        emulated(parse_topology(good()), step_time, link)


def test_drafters_get_what_their_pool_sets() -> None:
    data = good()
    data["drafters"]["lookup"] = {"kind": "suffix", "memory_tokens": 5000, "suffix_decoding_min_token_prob": 0}
    pool = parse_topology(data).drafters["lookup"]
    arguments = drafter_arguments(pool, ["a:1"], "lookup", None, ["m"])
    flags = ["--kind", "suffix", "--memory-tokens", "5000", "--suffix-decoding-min-token-prob", "0.0"]
    assert arguments == ["--verifiers", "a:1", *flags, "--name", "lookup"]
    config = parse(DrafterConfig, arguments, "x")
    assert (config.memory_tokens, config.suffix_decoding_min_token_prob) == (5000, 0.0)


def test_telemetry_goes_to_all_and_the_gateways_own_to_gateways() -> None:
    topology = parse_topology({**good(), "telemetry": {"otlp": "http://c:4317", "metric_names": "vllm"}})
    arguments = {module: common_arguments(topology, module, "x") for module in ("verifier_service", "gateway")}
    assert arguments["verifier_service"] == ["--otlp", "http://c:4317"]
    assert arguments["gateway"] == ["--otlp", "http://c:4317", "--metric-names", "vllm"]
    assert common_arguments(parse_topology(good()), "gateway", "x") == []


@pytest.mark.parametrize(
    ("pool", "config", "left_out"),
    [(VerifierPool, VerifierConfig, FLEETS_VERIFIER_KEYS), (DrafterPool, DrafterConfig, FLEETS_DRAFTER_KEYS)],
)
def test_a_pool_means_what_its_service_means(pool: type[Any], config: type[Any], left_out: tuple[str, ...]) -> None:
    """Defaults of a pool are not handed over, so they have to be those of the service."""
    services = {item.name: item.default for item in dataclasses.fields(config)}
    for item in dataclasses.fields(pool):
        if item.name not in left_out:
            default = item.default if item.default is not dataclasses.MISSING else services[item.name]
            assert (services[item.name] or "") == (default or "") or services[item.name] == default, item.name
