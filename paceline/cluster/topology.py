"""``topology.yaml``: one description of a fleet for processes, Ray and Kubernetes."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar, get_type_hints

import yaml

from paceline.emulation import EmulatedLink, Pace
from paceline.errors import UnsupportedParameter
from paceline.speculation.fields import FieldError, require

PartT = TypeVar("PartT")

MODEL_KINDS = ("model", "rag")
"""Kinds of drafters that run a model."""


@dataclass(frozen=True)
class VerifierPool:
    """Verifiers that hold one target."""

    replicas: int = 1
    device: str = "cpu"
    dtype: str = "float32"
    numerics: str = "standard"
    tensor_parallel_size: int = 1
    accelerator: str = ""
    price_per_hour: float = 0.0
    emulate_step_time: str = ""
    emulate_acceptance: str = ""


@dataclass(frozen=True)
class DrafterPool:
    """Drafters of one kind."""

    kind: str
    model: str = ""
    draft_context: int = 512
    replicas: int = 1
    device: str = "cpu"
    dtype: str = "float32"
    accelerator: str = ""
    price_per_hour: float = 0.0
    emulate_step_time: str = ""
    emulate_link: str = ""
    tokenizer: str = ""
    datastore: str = ""
    snapshot: str = ""
    memory_tokens: int = 10_000_000
    suffix_decoding_max_tree_depth: int = 24
    suffix_decoding_max_cached_requests: int = 10_000
    suffix_decoding_max_spec_factor: float = 1.0
    suffix_decoding_min_token_prob: float = 0.1


@dataclass(frozen=True)
class ModelRoute:
    """A model that clients ask for, with the pools that serve it."""

    id: str
    target: str
    verifiers: str
    drafters: tuple[str, ...] = ()


@dataclass(frozen=True)
class GatewayPool:
    """Ports of the gateway; 0 takes a free one."""

    grpc: int = 50051
    http: int = 8000
    replicas: int = 1


@dataclass(frozen=True)
class Topology:
    """A fleet. ``redis`` carries what finished sessions said to suffix drafters; None: each knows its own sessions."""

    models: tuple[ModelRoute, ...]
    verifiers: dict[str, VerifierPool]
    drafters: dict[str, DrafterPool] = field(default_factory=dict)
    gateway: GatewayPool = field(default_factory=GatewayPool)
    redis: str | None = None

    def __post_init__(self) -> None:
        require(bool(self.models), "models", [], "at least one model")
        for model in self.models:
            require(
                model.verifiers in self.verifiers,
                f"models.{model.id}.verifiers",
                model.verifiers,
                f"one of {list(self.verifiers)}",
            )
            for name in model.drafters:
                require(name in self.drafters, f"models.{model.id}.drafters", name, f"one of {list(self.drafters)}")
        for kind, pools in (("verifiers", self.verifiers), ("drafters", self.drafters)):
            for name, pool in pools.items():
                require(pool.replicas >= 0, f"{kind}.{name}.replicas", pool.replicas, "0 or more")
        for name, pool in self.verifiers.items():
            size = pool.tensor_parallel_size
            if size != 1:
                raise UnsupportedParameter(
                    f"verifiers.{name}.tensor_parallel_size", size, "1 (more is not supported yet)"
                )
        if self.redis is not None:
            self._check_redis(self.redis)
        if self.gateway.replicas != 1:
            raise UnsupportedParameter("gateway.replicas", self.gateway.replicas, "1 (more is not supported yet)")

    def _check_redis(self, url: str) -> None:
        from paceline.cluster.redis_client import check_redis

        check_redis("redis", url)
        for name, pool in self.drafters.items():
            known = pool.kind != "suffix" or pool.tokenizer or pool.model
            require(bool(known), f"drafters.{name}.tokenizer", "", "the target's, to find its texts in redis by")


def read_topology(path: Path) -> Topology:
    """Reads and checks a topology file."""
    require(path.is_file(), "topology", str(path), "a file")
    try:
        data = yaml.safe_load(path.read_text())
    except yaml.YAMLError as error:
        raise FieldError("topology", str(path), f"YAML: {error}") from error
    return parse_topology(data)


def parse_topology(data: Any) -> Topology:
    """Checks every key and type; unknown keys are errors."""
    top = _mapping("topology", data)
    _known(Topology, "", top)
    return Topology(
        models=tuple(_model(index, item) for index, item in enumerate(_list("models", top.get("models")))),
        verifiers={name: _part(VerifierPool, f"verifiers.{name}", item) for name, item in _pools(top, "verifiers")},
        drafters={name: _part(DrafterPool, f"drafters.{name}", item) for name, item in _pools(top, "drafters")},
        gateway=_part(GatewayPool, "gateway", top.get("gateway") or {}),
        redis=top.get("redis"),
    )


def _model(index: int, item: Any) -> ModelRoute:
    values = dict(_mapping(f"models[{index}]", item))
    values["drafters"] = tuple(_list(f"models[{index}].drafters", values.get("drafters", [])))
    return _part(ModelRoute, f"models[{index}]", values)


def _pools(top: dict[str, Any], key: str) -> list[tuple[str, Any]]:
    return list(_mapping(key, top.get(key) or {}).items())


def _part(kind: type[PartT], where: str, item: Any) -> PartT:
    values = _mapping(where, item)
    _known(kind, where, values)
    hints = get_type_hints(kind)
    for required in dataclasses.fields(kind):  # type: ignore[arg-type]
        missing = required.default is dataclasses.MISSING and required.name not in values
        require(not missing, f"{where}.{required.name}", None, "a value")
    checked = {name: _typed(f"{where}.{name}", value, hints[name]) for name, value in values.items()}
    return kind(**checked)


def _typed(where: str, value: Any, hint: Any) -> Any:
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if hint in (int, float, str):
        right = isinstance(value, hint) and not isinstance(value, bool)
        require(right, where, value, {int: "a whole number", float: "a number", str: "a string"}[hint])
    return value


def _known(kind: type[Any], where: str, values: dict[str, Any]) -> None:
    names = [item.name for item in dataclasses.fields(kind)]
    for key, value in values.items():
        require(key in names, f"{where}.{key}".lstrip("."), value, f"one of the keys {', '.join(names)}")


def _mapping(where: str, value: Any) -> dict[str, Any]:
    require(isinstance(value, dict), where, value, "a mapping")
    return dict(value)


def _list(where: str, value: Any) -> list[Any]:
    require(isinstance(value, list), where, value, "a list")
    return list(value)


def emulated(topology: Topology, step_time: str, link: str) -> Topology:
    """Experimental: all workers with the given step times and wires instead of their own.

    ``step_time`` as ``draft=4ms,target=40ms,per_row=0.1ms`` (the last one of the target), ``link`` as
    ``rtt=5ms,jitter=1ms,bandwidth=100mbps``; empty: as they are.
    """
    EmulatedLink.parse(link)
    times = dict(part.partition("=")[::2] for part in step_time.split(",") if part)
    known = bool(times) is bool(step_time) and set(times) <= {"draft", "target", "per_row"} and all(times.values())
    require(known, "emulate_step_time", step_time, "draft=…, target=… and per_row=…")
    require("per_row" not in times or "target" in times, "emulate_step_time", step_time, "target=… with per_row=…")
    target = ",".join(filter(None, (times.get("target"), f"per_row={times['per_row']}" if "per_row" in times else "")))
    draft = times.get("draft", "")
    for text in (target, draft):
        Pace.parse(text)
    return replace(
        topology,
        verifiers={
            name: replace(pool, emulate_step_time=target or pool.emulate_step_time)
            for name, pool in topology.verifiers.items()
        },
        drafters={
            name: replace(
                pool,
                emulate_step_time=draft if draft and pool.kind in MODEL_KINDS else pool.emulate_step_time,
                emulate_link=link or pool.emulate_link,
            )
            for name, pool in topology.drafters.items()
        },
    )
