"""A fleet on a Ray cluster, from outside: start it, ask it, scale it, end it."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import time
from collections.abc import Iterator, Sequence
from typing import Any

import ray
from ray.exceptions import GetTimeoutError, RayActorError, RayTaskError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from paceline.cluster.embedded_redis import check_embedded
from paceline.cluster.ray import actors, supervisor
from paceline.cluster.ray.host import node_address
from paceline.cluster.ray.managed import GRACE_SECONDS, FleetStatus, WorkerStatus, reason
from paceline.cluster.ray.needs import check_room
from paceline.cluster.ray.own_redis import RedisPlace
from paceline.cluster.ray.spec import workers_of
from paceline.cluster.topology import EMBEDDED, Topology
from paceline.errors import FailedPrecondition, NotFound, Unavailable
from paceline.speculation.fields import require

ANSWER_SECONDS = 30.0
START_SECONDS = 600.0
"""Large weights take long to read."""
TURN_SECONDS = 0.25


@contextlib.contextmanager
def connected(address: str, *, show_logs: bool = False) -> Iterator[None]:
    """Inside, Ray's cluster at ``address`` (``auto``: the one of this machine) is there. Raises ``Unavailable``.

    ``show_logs``: of the workers that are started meanwhile.
    """
    try:
        ray.init(address=address, namespace=actors.NAMESPACE, logging_level=logging.WARNING, log_to_driver=show_logs)
    except (ConnectionError, RuntimeError) as error:
        raise Unavailable(f"no Ray cluster at {address} ('ray start --head' starts one): {error}") from None
    try:
        yield
    finally:
        ray.shutdown()


def up(topology: Topology, *, insecure: bool, autoscale: bool = False) -> None:
    """Starts a fleet that stays, once it is known that its workers have places. Raises ``FieldError`` and
    ``FailedPrecondition``."""
    _check(topology, insecure=insecure)
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
    _answer(actor.options(**options).remote(topology, place, insecure=insecure, autoscale=autoscale).status.remote())


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


def _check(topology: Topology, *, insecure: bool) -> None:
    with contextlib.suppress(NotFound):
        _supervisor()
        raise FailedPrecondition("a fleet is there already; 'paceline down' ends it, 'paceline scale' changes it")
    redis = topology.redis
    reachable = redis is not None and not redis.startswith("unix:")
    require(reachable, "redis", redis, "an URL that all nodes reach, or embedded: workers find each other by it")
    if redis == EMBEDDED:
        check_embedded("redis")
    require(insecure or topology.tls is not None, "tls", None, "a folder of certificates, or --insecure")


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
