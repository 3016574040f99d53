"""One worker's actor, as the supervisor sees it: asked again and again, never waited for."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import ray
from ray.exceptions import ActorDiedError, RayError

from paceline.cluster.ray import actors
from paceline.cluster.ray.host import DRAINING, SERVING, HostState
from paceline.cluster.ray.needs import Needs
from paceline.cluster.ray.spec import WorkerSpec

PLACE_SECONDS = 5.0
"""An actor that has not answered by then waits for a node, or does not answer."""
GRACE_SECONDS = 40.0
"""For a worker to finish what it has in hand; services end by themselves after their ``--drain-seconds``."""
PLACING, LOST, OUTDATED = "being placed", "being restarted", "to be replaced"


@dataclass(frozen=True)
class WorkerStatus:
    """A row of ``paceline status``."""

    name: str
    role: str
    pool: str
    phase: str
    node: str = ""
    address: str = ""
    http_address: str = ""
    restarts: int = 0
    pid: int = 0
    """Of its actor."""
    announced: bool | None = None
    """Whether the registry has it; None: it does not say."""

    @property
    def serves(self) -> bool:
        return self.phase == SERVING


@dataclass(frozen=True)
class FleetStatus:
    """What ``paceline status`` shows; ``advice`` are replicas by pool, where there should be others than there are."""

    workers: Sequence[WorkerStatus]
    advice: Mapping[str, int]


class Managed:
    """From when the actor is started, or found, until it is over."""

    def __init__(self, spec: WorkerSpec, handle: Any) -> None:
        self.spec, self._handle = spec, handle
        self._state: HostState | None = None
        self._restarts = 0
        self._phase = PLACING
        self._asked, self._asked_at = handle.state.remote(), time.monotonic()
        self._draining: Any | None = None
        self._over_by = 0.0
        self.over = False
        """It will not come back by itself."""

    def look(self) -> None:
        """Takes an answer if there is one, and asks again."""
        if self._draining is not None:
            self.over = _is_there(self._draining) or time.monotonic() >= self._over_by
        elif _is_there(self._asked):
            self._take()
            self._asked, self._asked_at = self._handle.state.remote(), time.monotonic()
        elif time.monotonic() - self._asked_at > PLACE_SECONDS:
            self._phase = f"{'no answer' if self._state else 'no place'}; needs {self.spec.needs}"

    def drain(self) -> None:
        """Ends it once it has finished what it has in hand; to be called again and again, since one that has just been
        started, or found, is heard first."""
        waited = time.monotonic() - self._asked_at
        if self._draining is None and (self._state or waited > PLACE_SECONDS):
            self._phase = DRAINING
            self._draining = self._handle.drain.remote(GRACE_SECONDS)
            self._over_by = time.monotonic() + (GRACE_SECONDS + PLACE_SECONDS if self._state else 0.0)

    @property
    def serves(self) -> bool:
        return self._phase == SERVING

    @property
    def waits(self) -> bool:
        """For a node to be placed on, longer than placing takes."""
        return self._state is None and not self.drains and time.monotonic() - self._asked_at > PLACE_SECONDS

    @property
    def place(self) -> tuple[str, Needs] | None:
        """The id of its node, and what it has of it."""
        return (self._state.node_id, self.spec.needs) if self._state else None

    @property
    def drains(self) -> bool:
        return self._draining is not None

    def end(self) -> None:
        actors.end(self._handle, self.spec)

    def status(self) -> WorkerStatus:
        status = WorkerStatus(self.spec.name, self.spec.role, self.spec.pool, self._phase, restarts=self._restarts)
        if (state := self._state) is None:
            return status
        where = {"node": state.node, "address": state.address, "http_address": state.http_address, "pid": state.pid}
        return WorkerStatus(**{**vars(status), **where})

    def _take(self) -> None:
        try:
            state: HostState = ray.get(self._asked)
        except ActorDiedError as error:
            self.over, self._phase = True, f"failed: {reason(error)}"
        except RayError:
            self._phase = LOST
        else:
            self._restarts += self._state is not None and state.started_at != self._state.started_at
            self._state, self._phase = state, state.phase


def _is_there(reference: Any) -> bool:
    return bool(ray.wait([reference], timeout=0)[0])


def reason(error: Exception) -> str:
    """The last line that says something: Ray puts the cause, with its traceback, first."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__
