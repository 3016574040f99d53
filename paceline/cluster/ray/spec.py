"""Which workers a topology comes to on a Ray cluster; on what flags each of them runs and what it needs."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from paceline.cluster.local import (
    api_keys_arguments,
    common_arguments,
    drafter_arguments,
    gateway_arguments,
    grpc_ports,
    http_ports,
    role_of,
    verifier_arguments,
    verifiers_name,
)
from paceline.cluster.ray.needs import Needs, drafter_needs, verifier_needs
from paceline.cluster.topology import MODEL_KINDS, Topology
from paceline.speculation.fields import require

GATEWAY = "gateway"


@dataclass(frozen=True)
class WorkerSpec:
    """One worker. ``pool`` is the topology's key; ports of 0 are free ones, ``http_port`` -1 is none."""

    name: str
    pool: str
    module: str
    arguments: Sequence[str]
    needs: Needs
    port: int = 0
    http_port: int = -1

    @property
    def role(self) -> str:
        return role_of(self.module).value

    @property
    def key(self) -> str:
        """Its actor's name."""
        return f"{self.role}/{self.name}"

    @property
    def threads(self) -> int:
        """Compute threads that it may use."""
        return max(1, int(self.needs.cpus))


def workers_of(topology: Topology) -> list[WorkerSpec]:
    """All workers of a fleet that has a Redis, where they find each other."""
    specs = [*_verifiers(topology), *_drafters(topology), *_gateways(topology)]
    return [
        dataclasses.replace(spec, arguments=[*spec.arguments, *common_arguments(topology, spec.module, spec.name)])
        for spec in specs
    ]


def _verifiers(topology: Topology) -> Iterator[WorkerSpec]:
    for model in topology.models:
        pool = topology.verifiers[model.verifiers]
        needs = verifier_needs(pool)
        for name in _names(verifiers_name(topology, model), pool.replicas):
            spec = WorkerSpec(name, f"verifiers.{model.verifiers}", "verifier_service", [], needs)
            arguments = [*verifier_arguments(model, pool, topology.redis), "--threads", str(spec.threads)]
            yield dataclasses.replace(spec, arguments=[*arguments, "--name", name])


def _drafters(topology: Topology) -> Iterator[WorkerSpec]:
    for pool_name, pool in topology.drafters.items():
        models = [model.id for model in topology.models if pool_name in model.drafters]
        needs = drafter_needs(pool)
        for name in _names(pool_name, pool.replicas if models else 0):
            spec = WorkerSpec(name, f"drafters.{pool_name}", "drafter_service", [], needs)
            arguments = drafter_arguments(pool, [], name, topology.redis, models)
            if pool.kind in MODEL_KINDS:
                arguments += ["--threads", str(spec.threads)]
            yield dataclasses.replace(spec, arguments=arguments)


def _gateways(topology: Topology) -> Iterator[WorkerSpec]:
    pool = topology.gateway
    names = _names(GATEWAY, pool.replicas)
    for name, port, http_port in zip(names, grpc_ports(pool), http_ports(pool), strict=True):
        arguments = [*gateway_arguments([], [], None, topology.redis, name), *api_keys_arguments(pool)]
        yield WorkerSpec(name, GATEWAY, "gateway", arguments, Needs(), port, http_port)


def _names(name: str, replicas: int) -> list[str]:
    """Those of some replicas are those of fewer and some more: scaling renames nobody."""
    return [f"{name}-{index}" for index in range(replicas)]


def scaled(topology: Topology, pool: str, replicas: int) -> Topology:
    """With so many replicas of a pool: ``gateway``, ``verifiers.NAME``, ``drafters.NAME``, or NAME if it is one of a
    kind. Raises ``FieldError``."""
    kind, _, name = full_name(topology, pool).partition(".")
    if kind == GATEWAY:
        return dataclasses.replace(topology, gateway=dataclasses.replace(topology.gateway, replicas=replicas))
    pools = dict(getattr(topology, kind))
    pools[name] = dataclasses.replace(pools[name], replicas=replicas)
    changed: dict[str, Any] = {kind: pools}
    return dataclasses.replace(topology, **changed)


def full_name(topology: Topology, pool: str) -> str:
    """A pool's key in the topology."""
    keys = [f"{kind}.{name}" for kind in ("verifiers", "drafters") for name in getattr(topology, kind)] + [GATEWAY]
    found = [key for key in keys if pool in (key, key.partition(".")[2])]
    require(len(found) == 1, "pool", pool, f"one of {', '.join(keys)}")
    return found[0]
