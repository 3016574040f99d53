"""A fleet as local processes: started together, watched, and stopped together whatever happens."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from paceline import rpc
from paceline.cluster.topology import MODEL_KINDS, DrafterPool, ModelRoute, Topology, VerifierPool
from paceline.errors import Unavailable
from paceline.process import PASSIVE_WAITING
from paceline.settings.flags import flag

START_TIMEOUT_SECONDS = 120.0
STOP_TIMEOUT_SECONDS = 5.0
_LOG_TAIL_LINES = 12
FLEETS_VERIFIER_KEYS = ("replicas", "tensor_parallel_size", "accelerator", "price_per_hour")
FLEETS_DRAFTER_KEYS = ("replicas", "accelerator", "snapshot")
"""Keys of pools that are no flags of their services."""


@dataclass
class Worker:
    """A child process and the address that it serves."""

    name: str
    address: str
    process: subprocess.Popen[bytes]
    log: Path | None

    def last_words(self) -> str:
        if self.log is None:
            return ""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-_LOG_TAIL_LINES:])


class Reservation:
    """A free port, held until the child has bound it too (both with SO_REUSEPORT): nobody else can take it."""

    def __init__(self, port: int = 0) -> None:
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        self._socket.bind(("127.0.0.1", port))
        self.port: int = self._socket.getsockname()[1]

    def release(self) -> None:
        self._socket.close()


class LocalCluster:
    """``async with LocalCluster(topology) as cluster``: everything serves inside, nothing is left after.

    Children watch their standard input, a pipe that closes when this process is gone, even by SIGKILL.
    """

    def __init__(
        self,
        topology: Topology,
        *,
        show_logs: bool = False,
        free_ports: bool = True,
        start_timeout_seconds: float = START_TIMEOUT_SECONDS,
    ) -> None:
        """``start_timeout_seconds``: large weights take long to read."""
        self.topology, self._start_timeout_seconds = topology, start_timeout_seconds
        self.workers: list[Worker] = []
        self.gateway_address = self.http_address = ""
        self._show_logs, self._free_ports = show_logs, free_ports
        self._directory = tempfile.TemporaryDirectory(prefix="paceline-")
        self._reservations: list[Reservation] = []

    async def __aenter__(self) -> LocalCluster:
        try:
            self._start()
            await self._wait_until_serving()
        except BaseException:
            await self.stop()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    async def stop(self) -> None:
        """Has all end at once, without draining: by the end of standard input, and by SIGTERM those that do not read it
        yet. Then, after a while, SIGKILL."""
        for worker in self.workers:
            if worker.process.stdin:
                worker.process.stdin.close()
            if worker.process.poll() is None:
                worker.process.send_signal(signal.SIGTERM)
        deadline = time.monotonic() + STOP_TIMEOUT_SECONDS
        while any(worker.process.poll() is None for worker in self.workers) and time.monotonic() < deadline:
            with contextlib.suppress(asyncio.CancelledError):  # a second Ctrl-C must not leave children behind
                await asyncio.sleep(0.02)
        for worker in self.workers:
            if worker.process.poll() is None:
                worker.process.kill()
                worker.process.wait()
        for reservation in self._reservations:
            reservation.release()
        self._directory.cleanup()

    def worker(self, name: str) -> Worker:
        """The worker of this name."""
        return next(worker for worker in self.workers if worker.name == name)

    # -- starting ------------------------------------------------------------------------------------------------------

    def _start(self) -> None:
        spawn, http = self._spawn, self._reserve_http()
        self.gateway_address = start_all(self.topology, spawn, free_ports=self._free_ports, http_port=http)

    def _reserve_http(self) -> int:
        """The gateway's HTTP port, held for it; -1: none."""
        wanted = self.topology.gateway.http
        if wanted < 0:
            return wanted
        reservation = Reservation(0 if self._free_ports else wanted)
        self._reservations.append(reservation)
        self.http_address = f"127.0.0.1:{reservation.port}"
        return reservation.port

    def _spawn(self, name: str, module: str, arguments: Sequence[str], port: int = 0) -> str:
        reservation = Reservation(port)
        self._reservations.append(reservation)
        log = None if self._show_logs else Path(self._directory.name) / f"{name}.log"
        command = [sys.executable, "-m", module, *arguments, "--port", str(reservation.port), "--exit-with-parent"]
        with contextlib.ExitStack() as stack:
            output = stack.enter_context(log.open("wb")) if log else None
            process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=output,
                env={**os.environ, **PASSIVE_WAITING, "OMP_NUM_THREADS": _threads_of(arguments)},
                start_new_session=True,
            )
        address = f"127.0.0.1:{reservation.port}"
        self.workers.append(Worker(name, address, process, log))
        return address

    async def _wait_until_serving(self) -> None:
        patience = self._start_timeout_seconds
        deadline = time.monotonic() + patience
        for worker in self.workers:
            while not await rpc.is_serving(worker.address):
                status = worker.process.poll()
                if status is not None:
                    raise Unavailable(
                        f"{worker.name} ended with status {status} while starting:\n{worker.last_words()}"
                    )
                if time.monotonic() > deadline:
                    raise Unavailable(f"{worker.name} is not serving after {patience:.0f} s:\n{worker.last_words()}")
                await asyncio.sleep(0.05)


Spawn = Callable[[str, str, Sequence[str], int], str]
"""Starts a worker by name, module, arguments and port (0: a free one), and returns its address."""


def start_all(topology: Topology, spawn: Spawn, *, free_ports: bool, http_port: int) -> str:
    """Spawns every worker of a fleet, what is dialled before what dials it; returns the gateway's address."""
    drafter_addresses: list[str] = []
    verifier_addresses: list[str] = []
    served: dict[str, list[str]] = {}
    threads = _verifier_threads(topology)
    for model in topology.models:
        pool = topology.verifiers[model.verifiers]
        names = replica_names(verifiers_name(topology, model), pool.replicas)
        arguments = [*verifier_arguments(model, pool), "--threads", str(threads)]
        verifiers = [spawn(name, "verifier_service", [*arguments, "--name", name], 0) for name in names]
        verifier_addresses += verifiers
        for pool_name in model.drafters:
            served.setdefault(pool_name, []).extend(verifiers)
    for pool_name, verifiers in served.items():  # one process for all the targets that name its pool
        drafters = topology.drafters[pool_name]
        drafter_addresses += [
            spawn(name, "drafter_service", drafter_arguments(drafters, verifiers, name, topology.redis), 0)
            for name in replica_names(pool_name, drafters.replicas)
        ]
    arguments = gateway_arguments(verifier_addresses, drafter_addresses, http_port, topology.redis)
    return spawn("gateway", "gateway", arguments, 0 if free_ports else topology.gateway.grpc)


def verifiers_name(topology: Topology, model: ModelRoute) -> str:
    """A pool that several models name is started for each of them."""
    shared = sum(other.verifiers == model.verifiers for other in topology.models) > 1
    return f"{model.verifiers}-{model.id}" if shared else model.verifiers


def verifier_arguments(model: ModelRoute, pool: VerifierPool) -> list[str]:
    """Flags of the verifiers of a pool."""
    return ["--target", model.target, "--model", model.id, *_set_flags(pool, FLEETS_VERIFIER_KEYS)]


def drafter_arguments(pool: DrafterPool, verifiers: Sequence[str], name: str, redis: str | None) -> list[str]:
    """Flags of one drafter of a pool."""
    arguments = ["--verifiers", ",".join(verifiers), *_set_flags(pool, FLEETS_DRAFTER_KEYS)]
    if pool.snapshot:  # each replica has a memory of its own
        arguments += ["--snapshot", str(Path(pool.snapshot) / name)]
    if pool.kind == "suffix":
        arguments += _redis(redis)
    return [*arguments, "--name", name]


def gateway_arguments(
    verifiers: Sequence[str], drafters: Sequence[str], http_port: int, redis: str | None
) -> list[str]:
    """Flags of a gateway."""
    arguments = ["--verifiers", ",".join(verifiers), "--http-port", str(http_port), *_redis(redis)]
    return [*arguments, "--drafters", ",".join(drafters)] if drafters else arguments


def replica_names(name: str, replicas: int) -> list[str]:
    """Names of the workers of a pool."""
    return [name] if replicas == 1 else [f"{name}-{index}" for index in range(replicas)]


def _set_flags(pool: VerifierPool | DrafterPool, left_out: Collection[str]) -> list[str]:
    """What a pool sets; defaults are left to the service, so that its environment counts."""
    values = {item.name: getattr(pool, item.name) for item in dataclasses.fields(pool) if item.name not in left_out}
    defaults = {item.name: item.default for item in dataclasses.fields(pool)}
    return [word for name, value in values.items() if value != defaults[name] for word in (flag(name), str(value))]


def _redis(url: str | None) -> list[str]:
    return ["--redis", url] if url is not None else []


def _verifier_threads(topology: Topology) -> int:
    """Threads of all processes add up to the cores: one for each model drafter, one for all event loops together, the
    rest for the verifiers."""
    pools = [topology.drafters[name] for name in {name for model in topology.models for name in model.drafters}]
    models = sum(pool.replicas for pool in pools if pool.kind in MODEL_KINDS)
    verifiers = max(1, sum(topology.verifiers[model.verifiers].replicas for model in topology.models))
    return max(1, ((os.cpu_count() or 1) - models - 1) // verifiers)


def _threads_of(arguments: Sequence[str]) -> str:
    return arguments[arguments.index("--threads") + 1] if "--threads" in arguments else "1"
