"""The actor that a worker is on a Ray cluster: it runs the service as a child process and ends with it.

The child has its own event loop, its own thread for the device and its own port; nothing that it says or hears goes
through Ray. It ends when the actor's process does, since it watches its standard input.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray

from paceline import rpc
from paceline.cluster.child import Reservation, Worker
from paceline.cluster.local import role_of
from paceline.cluster.ray.spec import WorkerSpec
from paceline.process import PASSIVE_WAITING
from paceline.security.identity import OPERATOR, Identity

PAUSE_SECONDS = 1.0
"""Between the end of a service and that of its actor, which is then started again."""
STARTING, SERVING, DRAINING = "starting", "serving", "draining"


@dataclass(frozen=True)
class HostState:
    """What a worker's actor says of it."""

    phase: str
    address: str
    http_address: str
    node: str
    node_id: str
    """Ray's: nodes may share an address."""
    pid: int
    """Of the actor's process."""
    started_at: float
    """By the node's clock; another one after each restart."""


def node_address() -> str:
    """Under which other nodes reach this one."""
    util: Any = ray.util
    return str(util.get_node_ip_address())


class WorkerHost:
    """Started anywhere and any number of times: the service gets its port, and its incarnation, anew."""

    def __init__(self, spec: WorkerSpec, tls: str | None, *, insecure: bool) -> None:
        self._spec, self._node, self._started_at = spec, node_address(), time.time()
        self._node_id: str = ray.get_runtime_context().get_node_id()
        self._ports = [Reservation(port, self._node) for port in (spec.port, spec.http_port) if port >= 0]
        self._phase, self._trust = STARTING, Identity.within(Path(tls), OPERATOR) if tls else None
        addresses = [f"{self._node}:{reservation.port}" for reservation in self._ports]
        self._address, self._http_address = addresses[0], addresses[1] if len(addresses) > 1 else ""
        environment = {**os.environ, **PASSIVE_WAITING, "OMP_NUM_THREADS": str(spec.threads)}
        command = self._command(spec, insecure=insecure)
        self._child = Worker(spec.name, self._address, command, environment, None)
        self._child.start()
        threading.Thread(target=self._watch, daemon=True).start()

    def spec(self) -> WorkerSpec:
        """What it was started as."""
        return self._spec

    def state(self) -> HostState:
        """How it is now."""
        role = role_of(self._spec.module)
        serves = self._phase == STARTING and asyncio.run(rpc.is_serving(self._address, trust=self._trust, role=role))
        phase = SERVING if serves else self._phase
        where = self._address, self._http_address, self._node, self._node_id
        return HostState(phase, *where, os.getpid(), self._started_at)

    def drain(self, grace_seconds: float) -> int:
        """Has the service finish what it has in hand, for so long at most; the status that it ended with."""
        self._phase = DRAINING
        self._child.process.terminate()
        try:
            return self._child.process.wait(grace_seconds)
        except subprocess.TimeoutExpired:
            self._child.end()
            return self._child.process.returncode

    def _command(self, spec: WorkerSpec, *, insecure: bool) -> Sequence[str]:
        ports = zip(("--port", "--http-port"), self._ports, strict=False)
        listening = ["--host", self._node, *(word for name, kept in ports for word in (name, str(kept.port)))]
        if spec.module == "gateway" and len(self._ports) == 1:
            listening += ["--http-port", "-1"]
        elif spec.module != "gateway":
            listening += ["--advertise", self._address]
        listening += ["--insecure"] if insecure else []
        return [sys.executable, "-m", spec.module, *spec.arguments, *listening, "--exit-with-parent"]

    def _watch(self) -> None:
        """Ends the actor when the service ends by itself, so that Ray starts it again, maybe on another node."""
        status = self._child.process.wait()
        if self._phase == DRAINING:
            return
        self._phase = f"ended with status {status}"
        sys.stderr.write(f"{self._child.name} {self._phase}; its actor is started again\n")
        time.sleep(PAUSE_SECONDS)
        os._exit(1)
