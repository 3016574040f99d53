"""The services that a topology starts: what their settings come to, and where each value comes from."""

from __future__ import annotations

import dataclasses
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from drafter_service.config import DrafterConfig
from gateway.config import GatewayConfig
from paceline.cli.fleet import fleet_topology
from paceline.cluster.check import check_machine
from paceline.cluster.findings import Findings
from paceline.cluster.local import (
    api_keys_arguments,
    drafter_arguments,
    gateway_arguments,
    http_ports,
    replica_names,
    start_all,
    verifier_arguments,
    verifiers_name,
)
from paceline.cluster.topology import EMBEDDED, DrafterPool, Sections, Topology, VerifierPool, read_sections
from paceline.errors import FieldError
from paceline.settings import Origin, Resolved, resolve
from paceline.settings.flags import flag, variable
from paceline.settings.redaction import redacted
from paceline.settings.yaml_file import read_yaml
from paceline.speculation.fields import every_error, known_names, require
from verifier_service.config import VerifierConfig

ANY_ADDRESS = "127.0.0.1:0"
"""Stands for one that is known only when the worker is there."""
ANY_REDIS = "unix:///redis.sock"
"""Likewise, for a server of the fleet's own."""
CONFIGS: Mapping[str, type[Any]] = {"gateway": GatewayConfig, "verifier": VerifierConfig, "drafter": DrafterConfig}
_GATEWAY_KEYS = {
    "port": "gateway.grpc", "http_port": "gateway.http", "api_keys": "gateway.api_keys", "redis": "redis",
    "otlp": "telemetry.otlp", "trace_ratio": "telemetry.trace_ratio", "metric_names": "telemetry.metric_names",
}  # fmt: skip
"""Keys of the topology by the gateway's field that they set."""


@dataclass(frozen=True)
class Planned:
    """A service that ``paceline up`` would start."""

    name: str
    service: str
    arguments: Sequence[str]
    keys: Mapping[str, str]
    """Keys of the topology by the field that they set."""

    def resolve(self) -> Resolved[Any]:
        """Raises ``FieldError`` or ``FieldErrors`` whose fields are keys of the topology where those are wrong."""
        keys = {flag(name): key for name, key in self.keys.items()}
        with every_error() as checks:
            try:
                return resolve(CONFIGS[self.service], self.arguments, self.name, self.service)
            except FieldError as found:
                for error in found.errors:
                    key = keys.get(error.field, error.field)
                    checks.errors.append(FieldError(key, error.value, error.expected))
        raise AssertionError("errors were noted")

    def comes_from(self, origin: Origin, name: str) -> str:
        """Where a field's value comes from, in words; nothing for a default."""
        named = variable(self.service, name)
        match origin:
            case Origin.DEFAULT:
                return ""
            case Origin.ENVIRONMENT:
                return f"  # environment: {named}"
        said = f"  # file: {self.keys[name]}" if name in self.keys else "  # flag: paceline up"
        return f"{said}, not {named}" if named in os.environ else said


def planned_services(topology: Topology) -> list[Planned]:
    """Every service of a fleet, as ``paceline up`` starts it."""
    planned: list[Planned] = []
    pool_of = {
        name: model.verifiers
        for model in topology.models
        for name in replica_names(verifiers_name(topology, model), topology.verifiers[model.verifiers].replicas)
    }
    for pool_name, drafters in topology.drafters.items():
        pool_of |= dict.fromkeys(replica_names(pool_name, drafters.replicas), pool_name)

    def note(name: str, module: str, arguments: Sequence[str], port: int) -> str:
        service = module.removesuffix("_service")
        keys = _GATEWAY_KEYS
        if service != "gateway":
            pools: Mapping[str, VerifierPool | DrafterPool]
            pools = topology.verifiers if service == "verifier" else topology.drafters
            pool = pool_of[name]
            keys = _keys(f"{service}s.{pool}", pools[pool], arguments)
        planned.append(Planned(name, service, [*arguments, "--port", str(port)], keys))
        return ANY_ADDRESS

    topology = dataclasses.replace(topology, redis=_url(topology.redis))
    start_all(topology, note, free_ports=False, http_ports=http_ports(topology.gateway))
    return planned


def sample_services(sections: Sections) -> Iterator[Planned]:
    """One service for each pool, whether or not the sections are a topology."""
    redis = _url(sections.redis)
    for model in sections.models:
        if model.verifiers in sections.verifiers:
            pool = sections.verifiers[model.verifiers]
            arguments = verifier_arguments(model, pool, redis)
            yield Planned(
                model.verifiers, "verifier", arguments, _keys(f"verifiers.{model.verifiers}", pool, arguments)
            )
    for name, drafters in sections.drafters.items():
        arguments = drafter_arguments(drafters, [ANY_ADDRESS], name, redis, [])
        yield Planned(name, "drafter", arguments, _keys(f"drafters.{name}", drafters, arguments))
    arguments = gateway_arguments([ANY_ADDRESS], [], sections.gateway.http, redis, "gateway")
    arguments += ["--port", str(sections.gateway.grpc), *api_keys_arguments(sections.gateway)]
    yield Planned("gateway", "gateway", arguments, _GATEWAY_KEYS)


def _url(redis: str | None) -> str | None:
    return ANY_REDIS if redis == EMBEDDED else redis


def _keys(where: str, pool: VerifierPool | DrafterPool, arguments: Sequence[str]) -> dict[str, str]:
    keys = {field.name: f"{where}.{field.name}" for field in dataclasses.fields(pool)}
    keys |= {"redis": "redis", "otlp": "telemetry.otlp"}
    if isinstance(pool, VerifierPool):
        model_id = arguments[arguments.index("--model") + 1]
        keys |= {"target": f"models.{model_id}.target", "model": f"models.{model_id}.id"}
    return keys


def check_topology(file: Path) -> Findings:
    """All that is wrong or odd about a topology file, each key once."""
    try:
        data = read_yaml("topology", file)
    except FieldError as error:
        return Findings([error])
    sections, errors = read_sections(data)
    read = {error.field for error in errors}  # what stands in for these may be wrong, too
    found = check_machine(sections)
    further = found.errors
    for planned in sample_services(sections):
        try:
            planned.resolve()
        except FieldError as error:
            further += error.errors
    errors += {str(error): error for error in further if error.field not in read}.values()
    return Findings(errors, found.warnings)


def show_settings(file: Path | None, worker: str = "") -> str:
    """As YAML: settings by worker, or only those of one."""
    services = planned_services(fleet_topology(file, None, None))
    if file is None:
        services = [dataclasses.replace(planned, keys={}) for planned in services]
    names = [planned.name for planned in services]
    require(not worker or worker in names, "worker", worker, f"one of {known_names(names, worker)}")
    lines: list[str] = []
    with every_error() as checks:
        for planned in services:
            with checks.caught():
                settings = _settings(planned) if worker in ("", planned.name) else []
                if not worker:
                    lines.append(f"{planned.name}:  # {planned.service}")
                lines += settings if worker else [f"  {line}" for line in settings]
    return "\n".join(lines)


def _settings(planned: Planned) -> list[str]:
    resolved = planned.resolve()
    lines = []
    for name, origin in resolved.origins.items():
        value = redacted(name, getattr(resolved.config, name))
        lines.append(f"{name}: {_as_yaml(value)}{planned.comes_from(origin, name)}")
    return lines


def _as_yaml(value: object) -> str:
    """On one line."""
    plain = list(value) if isinstance(value, tuple) else str(value) if isinstance(value, Path) else value
    text = yaml.safe_dump(plain, default_flow_style=True, width=sys.maxsize, allow_unicode=True)
    return text.removesuffix("\n").removesuffix("\n...")
