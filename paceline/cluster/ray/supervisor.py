"""The detached actor that keeps a fleet as its topology says: it starts and drains workers, and knows how they are."""

from __future__ import annotations

import contextlib
import dataclasses
import threading
import time
from collections.abc import Iterator

import ray

from paceline import logs
from paceline.cluster.announcing import ROLES
from paceline.cluster.ray import actors, memory
from paceline.cluster.ray.advisor import Advisor
from paceline.cluster.ray.host import DRAINING
from paceline.cluster.ray.managed import OUTDATED, PLACE_SECONDS, PLACING, FleetStatus, Managed, WorkerStatus
from paceline.cluster.ray.needs import check_room
from paceline.cluster.ray.own_redis import OwnRedis, RedisPlace
from paceline.cluster.ray.refusals import check_same_insecure, check_unchanged
from paceline.cluster.ray.rolling import to_replace
from paceline.cluster.ray.spec import WorkerSpec, scaled, workers_of
from paceline.cluster.topology import EMBEDDED, Topology

NAME = "supervisor"
"""Its own name as an actor."""
TURN_SECONDS = 0.25

logger = logs.get_logger(__name__)


class FleetSupervisor:
    """Workers go on without it: it may die and come back, and finds them by name."""

    def __init__(self, topology: Topology, redis: RedisPlace | None, *, insecure: bool, autoscale: bool) -> None:
        """``topology`` has the URL of its Redis; ``redis``: where it is to be started for it; ``autoscale``: what is
        advised is done."""
        logs.configure()
        logs.name_worker(NAME)
        self._topology, self._insecure, self._autoscale = topology, insecure, autoscale
        self._own_redis = OwnRedis(redis) if redis else None
        self._workers: dict[str, Managed] = {}
        self._not_before: dict[str, float] = {}
        """When workers that failed to start are tried again, by key."""
        self._failures: dict[str, WorkerStatus] = {}
        """Of these, what was the matter."""
        self._advisor = Advisor()
        self._ending = False
        self._lock = threading.Lock()
        if self._own_redis:
            self._own_redis.start()
        context = ray.get_runtime_context()
        self._id, self._again = str(context.get_actor_id()), context.was_current_actor_reconstructed
        if self._again:
            self._workers = {spec.key: Managed(spec, handle) for spec, handle in actors.running()}
        for work in (self._keep, self._advise):
            threading.Thread(target=work, daemon=True).start()

    # -- what is asked of it -------------------------------------------------------------------------------------------

    def status(self) -> FleetStatus:
        """All workers, those that are to end included."""
        with self._lock:
            rows = list(self._rows())
        if (announced := memory.announced(self._url)) is not None:
            known = [(row, (row.role, row.name, row.address) in announced) for row in rows]
            rows = [dataclasses.replace(row, announced=there if row.role in ROLES else None) for row, there in known]
        return FleetStatus(rows, self._advisor.advice)

    def scale(self, pool: str, replicas: int) -> None:
        """Raises ``FieldError`` for a pool that is not there, or workers that no node has room for."""
        with self._lock:
            self._change(scaled(self._topology, pool, replicas), self._autoscale)

    def apply(self, topology: Topology, *, insecure: bool, autoscale: bool) -> None:
        """Has the fleet become what this topology says. Raises ``FieldError`` for what no node has room for, and for
        what stays as it is while a fleet runs; nothing is changed then."""
        with self._lock:
            if topology.redis == EMBEDDED and self._own_redis:
                topology = dataclasses.replace(topology, redis=self._url)
            check_same_insecure(self._insecure, insecure)
            check_unchanged(self._topology, topology)
            self._change(topology, autoscale)
            self._not_before.clear()
            self._failures.clear()

    def down(self) -> bool:
        """Has everything end; whether all is over."""
        with self._lock:
            self._ending = True
            if self._workers:
                return False
            memory.forget(self._url, self._id)
            if self._own_redis:
                self._own_redis.stop()
            return True

    # -- its own threads -----------------------------------------------------------------------------------------------

    def _advise(self) -> None:
        while not self._ending:
            with self._lock:
                topology, rows = self._topology, [worker.status() for worker in self._workers.values()]
            try:
                self._advisor.look(topology, [row.http_address for row in rows if row.http_address and row.serves])
                if self._autoscale:
                    self._advisor.follow(self.scale)
            except Exception:
                logger.exception("unexpected failure in advising")

    def _keep(self) -> None:
        self._recall()
        while True:
            try:
                with self._lock:
                    self._turn()
            except Exception:
                logger.exception("unexpected failure in looking after the fleet")
            time.sleep(TURN_SECONDS)

    def _recall(self) -> None:
        """What was asked of it before it was started again; until it knows it starts and ends nobody."""
        if not self._again:
            return
        while (known := memory.recall(self._url, self._id)) is None and not self._ending:
            time.sleep(TURN_SECONDS)
        with self._lock:
            for asked in known or ():
                self._topology, self._autoscale = asked.topology, asked.autoscale

    def _turn(self) -> None:
        if self._own_redis and not self._ending:
            self._own_redis.look()
        wanted = self._wanted()
        outdated = to_replace(self._workers, wanted)
        for key, worker in list(self._workers.items()):
            if key not in wanted or key in outdated:
                worker.drain()
            worker.look()
            if worker.over:
                self._bury(key, worker)
        self._failures = {key: row for key, row in self._failures.items() if key in wanted}
        for key, spec in wanted.items():
            if key not in self._workers and time.monotonic() >= self._not_before.get(key, 0.0):
                self._begin(spec)

    def _begin(self, spec: WorkerSpec) -> None:
        with contextlib.suppress(ValueError):  # one that has just ended may have the name still
            handle = actors.start(spec, self._topology.tls, insecure=self._insecure)
            self._workers[spec.key] = Managed(spec, handle)

    def _bury(self, key: str, worker: Managed) -> None:
        worker.end()
        del self._workers[key]
        self._failures.pop(key, None)
        if not worker.drains:  # its constructor failed: Ray does not try that again
            self._failures[key] = worker.status()
            self._not_before[key] = time.monotonic() + PLACE_SECONDS

    def _wanted(self) -> dict[str, WorkerSpec]:
        return {} if self._ending else {spec.key: spec for spec in workers_of(self._topology)}

    def _rows(self) -> Iterator[WorkerStatus]:
        """Of those that are wanted and those that are to end."""
        wanted = self._wanted()
        for key, worker in self._workers.items():
            row = worker.status()
            if row.serves and worker.spec != wanted.get(key):
                row = dataclasses.replace(row, phase=OUTDATED if key in wanted else DRAINING)
            yield row
        for key, spec in wanted.items():
            if key not in self._workers:
                yield self._failures.get(key) or WorkerStatus(spec.name, spec.role, spec.pool, PLACING)

    def _change(self, topology: Topology, autoscale: bool) -> None:  # noqa: FBT001 - as it is kept
        """From now on this is what is wanted, if there is room for it where those who go make some."""
        wanted = {spec.key: spec for spec in workers_of(topology)}
        gone = [worker for key, worker in self._workers.items() if worker.spec != wanted.get(key)]
        stay = self._workers.keys() - {worker.spec.key for worker in gone}
        new = [(spec.pool, spec.needs) for key, spec in wanted.items() if key not in stay]
        check_room(new, actors.offers(worker.place for worker in gone if worker.place))
        memory.remember(self._url, self._id, memory.Asked(topology, autoscale))
        self._topology, self._autoscale = topology, autoscale

    @property
    def _url(self) -> str:
        assert self._topology.redis is not None, "checked by who starts a fleet"
        return self._topology.redis
