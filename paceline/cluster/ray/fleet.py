"""A fleet on a Ray cluster, from outside: start it, ask it, scale it, end it."""

from __future__ import annotations

import contextlib
import dataclasses
import time
from collections.abc import Iterator, Sequence
from typing import Any

import ray
from ray.exceptions import GetTimeoutError, RayActorError, RayTaskError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from paceline.cluster.ray import actors, supervisor
from paceline.cluster.ray.host import node_address
from paceline.cluster.ray.managed import GRACE_SECONDS, FleetStatus, WorkerStatus, reason
from paceline.cluster.ray.needs import check_room
from paceline.cluster.ray.own_redis import RedisPlace
from paceline.cluster.ray.refusals import check_deployable
from paceline.cluster.ray.spec import workers_of
from paceline.cluster.topology import EMBEDDED, Topology
from paceline.errors import FailedPrecondition, NotFound, Unavailable

ANSWER_SECONDS = 30.0
START_SECONDS = 600.0
"""Large weights take long to read."""
TURN_SECONDS = 0.25


def up(topology: Topology, *, insecure: bool, autoscale: bool = False) -> None:
    """Starts a fleet that stays, or has the one that is there become what the topology says, once it is known that its
    workers have places. Raises ``FieldError`` and ``FailedPrecondition``."""
    check_deployable(topology, insecure=insecure)
    try:
        there = _supervisor()
    except NotFound:
        _start(topology, insecure=insecure, autoscale=autoscale)
    else:
        _answer(there.apply.remote(topology, insecure=insecure, autoscale=autoscale))


def _start(topology: Topology, *, insecure: bool, autoscale: bool) -> None:
    check_room(((spec.pool, spec.needs) for spec in workers_of(topology)), actors.offers())
    here, place = ray.get_runtime_context().get_node_id(), None
    if topology.redis == EMBEDDED:
        place = RedisPlace.choose(node_address())
        topology = dataclasses.replace(topology, redis=place.url)
    options: dict[str, Any] = {
        "num_cpus": 0,
        "max_restarts": -1,
        "max_task_retries": 0,
        "max_concurrency": actors.CALLS,
    }
    options |= {"name": supervisor.NAME, "namespace": actors.NAMESPACE, "lifetime": "detached"}
    options["scheduling_strategy"] = NodeAffinitySchedulingStrategy(here, soft=place is None)
    actor: Any = ray.remote(supervisor.FleetSupervisor)
    try:
        started = actor.options(**options).remote(topology, place, insecure=insecure, autoscale=autoscale)
    except ValueError:
        raise FailedPrecondition("somebody else has just started a fleet; the same again changes that one") from None
    _answer(started.status.remote())


def status() -> FleetStatus:
    """Raises ``NotFound`` where there is no fleet."""
    found: FleetStatus = _answer(_supervisor().status.remote())
    return dataclasses.replace(found, workers=sorted(found.workers, key=lambda row: (row.role, row.name)))


def scale(pool: str, replicas: int) -> None:
    """Asks for so many of a pool; who is too many ends when it has finished what it has in hand. Raises ``FieldError``
    for a pool that is not there, or that the cluster has no room for."""
    _answer(_supervisor().scale.remote(pool, replicas))


def down() -> None:
    """Drains and ends all workers, then the supervisor."""
    fleet, deadline = _supervisor(), time.monotonic() + GRACE_SECONDS + ANSWER_SECONDS
    while not _answer(fleet.down.remote()):
        if time.monotonic() > deadline:
            raise Unavailable(f"workers have not ended after {GRACE_SECONDS + ANSWER_SECONDS:.0f} s")
        time.sleep(TURN_SECONDS)
    ray.kill(fleet, no_restart=True)
    with contextlib.suppress(NotFound):  # Ray names it for a moment still
        while time.monotonic() < deadline and _supervisor():
            time.sleep(TURN_SECONDS)


def until_serving(patience_seconds: float = START_SECONDS) -> Iterator[Sequence[WorkerStatus]]:
    """Yields how all workers are whenever that has changed, at last that all serve; raises ``Unavailable`` if they do
    not in time."""
    deadline, before = time.monotonic() + patience_seconds, None
    while True:
        rows = status().workers
        if rows != before:
            yield rows
        before = rows
        if rows and all(row.serves for row in rows):
            return
        if time.monotonic() > deadline:
            late = ", ".join(f"{row.name} ({row.phase})" for row in rows if not row.serves)
            raise Unavailable(f"not serving after {patience_seconds:.0f} s: {late}")
        time.sleep(TURN_SECONDS)


def _supervisor() -> Any:
    try:
        return ray.get_actor(supervisor.NAME, actors.NAMESPACE)
    except ValueError:
        raise NotFound("there is no fleet on this Ray cluster; 'paceline up --on ray' starts one") from None


def _answer(reference: Any) -> Any:
    """What an actor's method returns, or raises."""
    try:
        return ray.get(reference, timeout=ANSWER_SECONDS)
    except RayTaskError as error:
        raise error.cause from None
    except RayActorError as error:
        raise Unavailable(f"the supervisor is not there: {reason(error)}") from None
    except GetTimeoutError:
        raise Unavailable(f"the supervisor does not answer within {ANSWER_SECONDS:.0f} s") from None
