"""``topology.yaml``: one description of a fleet for processes, Ray and Kubernetes."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from paceline.cluster.reader import Reader
from paceline.emulation import EmulatedLink, Pace
from paceline.errors import UnsupportedParameter
from paceline.settings.yaml_file import read_yaml
from paceline.speculation.fields import Checks, FieldError, FieldErrors, every_error, require
from paceline.telemetry.settings import (
    DEFAULT_TRACE_RATIO,
    NAMES,
    check_metric_names,
    check_otlp,
    check_trace_ratio,
)

PORTS = ("grpc", "http")
"""Keys of the gateway that are ports, no two of them the same."""
MODEL_KINDS = ("model", "rag")
"""Kinds of drafters that run a model."""
EMBEDDED = "embedded"
"""In place of an URL of Redis: a server of the fleet's own."""


@dataclass(frozen=True)
class VerifierPool:
    """Verifiers that hold one target.

    ``cpus`` is what each one takes of a Ray cluster, beside one GPU per ``tensor_parallel_size`` on a ``cuda`` device.
    """

    replicas: int = 1
    device: str = "cpu"
    dtype: str = "float32"
    numerics: str = "standard"
    tensor_parallel_size: int = 1
    cpus: float = 1.0
    accelerator: str = ""
    price_per_hour: float = 0.0
    emulate_step_time: str = ""
    emulate_acceptance: str = ""


@dataclass(frozen=True)
class DrafterPool:
    """Drafters of one kind.

    ``cpus`` and, on a ``cuda`` device, ``gpus`` are what each one takes of a Ray cluster; several may share a GPU.
    """

    kind: str
    model: str = ""
    draft_context: int = 512
    replicas: int = 1
    device: str = "cpu"
    dtype: str = "float32"
    cpus: float = 1.0
    gpus: float = 1.0
    accelerator: str = ""
    price_per_hour: float = 0.0
    emulate_step_time: str = ""
    emulate_acceptance: str = ""
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
    """Ports of the first gateway, the others have the next ones; 0 takes free ones, -1 for ``http`` does without.

    ``api_keys``: the file of keys that are let in.
    """

    grpc: int = 50051
    http: int = 8000
    replicas: int = 1
    api_keys: str = ""

    def ports(self, name: str) -> list[int]:
        """Those of all gateways that the key ``name`` asks for."""
        first: int = getattr(self, name)
        return [first + index for index in range(self.replicas)] if first > 0 else []


@dataclass(frozen=True)
class TelemetryKeys:
    """What all services of a fleet tell of themselves, beside their ``/metrics``.

    ``otlp``: the collector that spans and measurements are sent to; ``trace_ratio`` and ``metric_names`` are the
    gateways'.
    """

    otlp: str | None = None
    trace_ratio: float = DEFAULT_TRACE_RATIO
    metric_names: str = NAMES[0]

    def flags(self, *, gateway: bool) -> dict[str, Any]:
        """Settings of a service that are not its defaults."""
        keys = ("otlp", "trace_ratio", "metric_names") if gateway else ("otlp",)
        plain = TelemetryKeys()
        return {key: getattr(self, key) for key in keys if getattr(self, key) != getattr(plain, key)}


@dataclass(frozen=True)
class Sections:
    """The parts of a topology, each in itself well-formed.

    ``redis``, an URL or ``embedded``, knows which workers there are and carries what finished sessions said to suffix
    drafters; None: workers are those of the topology, and each drafter knows its own sessions.
    ``tls`` is a directory that ``paceline certs init`` has written; None: no TLS.
    """

    models: tuple[ModelRoute, ...]
    verifiers: dict[str, VerifierPool]
    drafters: dict[str, DrafterPool] = field(default_factory=dict)
    gateway: GatewayPool = field(default_factory=GatewayPool)
    redis: str | None = None
    tls: str | None = None
    telemetry: TelemetryKeys = field(default_factory=TelemetryKeys)


@dataclass(frozen=True)
class Topology(Sections):
    """A fleet: sections that fit together."""

    def __post_init__(self) -> None:
        with every_error() as checks:
            checks.require(bool(self.models), "models", [], "at least one model")
            self._check_routes(checks)
            self._check_pools(checks)
            self._check_ports(checks)
            check_otlp(checks, self.telemetry.otlp, "telemetry.otlp")
            check_trace_ratio(checks, self.telemetry.trace_ratio, "telemetry.trace_ratio")
            check_metric_names(checks, self.telemetry.metric_names, "telemetry.metric_names")
            if self.redis is not None:
                self._check_redis(checks, self.redis)

    def _check_routes(self, checks: Checks) -> None:
        for index, model in enumerate(self.models):
            where = _route_key(index, {"id": model.id})
            checks.require(bool(model.id), f"{where}.id", model.id, "a name")
            known = model.verifiers in self.verifiers
            checks.require(known, f"{where}.verifiers", model.verifiers, f"one of {list(self.verifiers)}")
            for name in model.drafters:
                checks.require(name in self.drafters, f"{where}.drafters", name, f"one of {list(self.drafters)}")

    def _check_pools(self, checks: Checks) -> None:
        for kind, pools in (("verifiers", self.verifiers), ("drafters", self.drafters)):
            for name, pool in pools.items():
                for key in ("replicas", "price_per_hour", "cpus"):
                    checks.require(getattr(pool, key) >= 0, f"{kind}.{name}.{key}", getattr(pool, key), "0 or more")
        for name, drafters in self.drafters.items():
            share = drafters.gpus
            possible = 0 < share <= 1 or (share > 1 and share.is_integer())
            checks.require(possible, f"drafters.{name}.gpus", share, "a share of one GPU, or a whole number of them")
        for name, verifiers in self.verifiers.items():
            size = verifiers.tensor_parallel_size
            if size != 1:
                key = f"verifiers.{name}.tensor_parallel_size"
                checks.errors.append(UnsupportedParameter(key, size, "1 (more is not supported yet)"))

    def _check_ports(self, checks: Checks) -> None:
        ports = {name: getattr(self.gateway, name) for name in PORTS}
        for name, port in ports.items():
            least = -1 if name == "http" else 0
            last = 65536 - max(1, self.gateway.replicas)
            checks.require(least <= port <= last, f"gateway.{name}", port, f"{least}{' (off)' * (least < 0)} to {last}")
            taken = set(self.gateway.ports(name))
            others = [other for other in ports if other < name and taken & set(self.gateway.ports(other))]
            checks.require(not others, f"gateway.{name}", port, f"another port than that of {', '.join(others)}")
        replicas = self.gateway.replicas
        checks.require(replicas >= 1, "gateway.replicas", replicas, "at least 1")

    def _check_redis(self, checks: Checks, url: str) -> None:
        from paceline.cluster.redis_client import check_redis

        with checks.caught():
            if url != EMBEDDED:
                check_redis("redis", url)
        for name, pool in self.drafters.items():
            known = pool.kind != "suffix" or pool.tokenizer or pool.model
            checks.require(bool(known), f"drafters.{name}.tokenizer", "", "the target's, to find its texts in redis by")


def read_topology(path: Path) -> Topology:
    """Reads and checks a topology file."""
    return parse_topology(read_yaml("topology", path))


def parse_topology(data: Any) -> Topology:
    """Checks every key and type, and that all fits together; raises every error at once."""
    sections, errors = read_sections(data)
    if errors:
        raise errors[0] if len(errors) == 1 else FieldErrors(errors)
    return Topology(**vars(sections))


def read_sections(data: Any) -> tuple[Sections, list[FieldError]]:
    """What can be read of a topology, and every error.

    What is missing or wrong has its default or an empty value, and causes no further errors.
    """
    reader = Reader()
    top = reader.known(Sections, "", reader.mapping("topology", data))
    routes = reader.sequence("models", top.get("models"))
    sections = Sections(
        models=tuple(reader.part(ModelRoute, _route_key(index, item), item) for index, item in enumerate(routes)),
        verifiers=reader.parts(VerifierPool, "verifiers", top.get("verifiers") or {}),
        drafters=reader.parts(DrafterPool, "drafters", top.get("drafters") or {}),
        gateway=reader.part(GatewayPool, "gateway", top.get("gateway") or {}),
        redis=reader.value("redis", top.get("redis"), str | None, None),
        tls=reader.value("tls", top.get("tls"), str | None, None),
        telemetry=reader.part(TelemetryKeys, "telemetry", top.get("telemetry") or {}),
    )
    return sections, [*reader.errors, *_misfits(sections, {error.field for error in reader.errors})]


def _misfits(sections: Sections, noted: Collection[str]) -> list[FieldError]:
    """Why the sections are no topology, but for what follows from errors that are noted already."""
    try:
        Topology(**vars(sections))
    except FieldError as found:
        return [error for error in found.errors if error.field not in noted and error.field.split(".")[-1] not in noted]
    return []


def _route_key(index: int, item: Any) -> str:
    named = item.get("id") if isinstance(item, dict) else None
    return f"models.{named}" if named and isinstance(named, str) else f"models[{index}]"


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
