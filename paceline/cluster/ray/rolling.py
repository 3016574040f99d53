"""Which workers of a fleet that runs make way for others with other flags, so that the rest of each pool goes on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from paceline.cluster.ray.spec import WorkerSpec


class Running(Protocol):
    """A worker as it is now."""

    @property
    def spec(self) -> WorkerSpec: ...
    @property
    def serves(self) -> bool: ...
    @property
    def waits(self) -> bool:
        """For a node to be placed on."""


def to_replace(running: Mapping[str, Running], wanted: Mapping[str, WorkerSpec]) -> list[str]:
    """Keys of workers to drain now; one as it is wanted is started when that of its name is gone.

    Whoever does not serve goes at once. Of those that serve goes one of a pool, when all others of the pool serve: so
    workers that cannot start under new flags take nobody else with them. One that waits for a place holds up nobody,
    since what it waits for may be what the others have.
    """
    found: list[str] = []
    for pool in {spec.pool: None for spec in wanted.values()}:
        keys = [key for key, spec in wanted.items() if spec.pool == pool]
        outdated = [key for key in keys if key in running and running[key].spec != wanted[key]]
        idle = [key for key in outdated if not running[key].serves]
        settled = all(key in running and (running[key].serves or running[key].waits) for key in keys)
        found += idle or (outdated[:1] if settled else [])
    return found
