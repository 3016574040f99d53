"""A fleet as local processes: started together, watched, and stopped together whatever happens."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import functools
import os
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from paceline import rpc
from paceline.cluster.child import Reservation, Worker
from paceline.cluster.topology import (
    EMBEDDED,
    MODEL_KINDS,
    DrafterPool,
    GatewayPool,
    ModelRoute,
    Topology,
    VerifierPool,
)
from paceline.errors import Unavailable
from paceline.process import PASSIVE_WAITING
from paceline.security.identity import OPERATOR, Identity, Party, Role
from paceline.settings.flags import flag

START_TIMEOUT_SECONDS = 120.0
STOP_TIMEOUT_SECONDS = 5.0
REDIS = "redis"
"""Name of an embedded server among the workers."""
FLEETS_VERIFIER_KEYS = ("replicas", "tensor_parallel_size", "cpus", "accelerator", "price_per_hour")
FLEETS_DRAFTER_KEYS = ("replicas", "cpus", "gpus", "accelerator", "snapshot")
"""Keys of pools that are no flags of their services."""
WITH_METRICS = ("verifier_service", "drafter_service")
"""Modules of workers that tell their metrics on a port of its own."""


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
        self.gateway_addresses: list[str] = []
        self.http_addresses: list[str] = []
        self.metrics_addresses: dict[str, str] = {}
        """Of verifiers and drafters by name; gateways have them beside what else they serve by HTTP."""
        self._show_logs, self._free_ports = show_logs, free_ports
        self._directory = tempfile.TemporaryDirectory(prefix="paceline-")
        self._reservations: list[Reservation] = []

    async def __aenter__(self) -> Self:
        try:
            await self._start_redis()
            self._start()
            for worker in self.workers:
                await self._until_serving(worker)
        except BaseException:
            await self.stop()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    async def stop(self) -> None:
        """Has all end at once, without draining, Redis last: by the end of standard input, and by SIGTERM those that do
        not read it yet. Then, after a while, SIGKILL."""
        for worker in self.workers:
            if worker.process.stdin and worker.name != REDIS:
                worker.process.stdin.close()
        await _end([worker for worker in self.workers if worker.name != REDIS], STOP_TIMEOUT_SECONDS)
        await _end([worker for worker in self.workers if worker.name == REDIS], STOP_TIMEOUT_SECONDS)
        for reservation in self._reservations:
            reservation.release()
        self._directory.cleanup()

    def worker(self, name: str) -> Worker:
        """The worker of this name."""
        return next(worker for worker in self.workers if worker.name == name)

    @property
    def gateway_address(self) -> str:
        """Of the first gateway."""
        return self.gateway_addresses[0]

    @property
    def http_address(self) -> str:
        """Of the first gateway; empty: it has none."""
        return self.http_addresses[0] if self.http_addresses else ""

    def kill(self, name: str, number: signal.Signals = signal.SIGKILL) -> None:
        """Sends a worker a signal; one that is killed is over when this returns."""
        process = self.worker(name).process
        process.send_signal(number)
        if number is signal.SIGKILL:
            process.wait()

    async def restart(self, name: str, grace_seconds: float = STOP_TIMEOUT_SECONDS) -> None:
        """A new process of this name at the same address, serving; what is left of the old one has so long to end."""
        worker = self.worker(name)
        await _end([worker], grace_seconds)
        worker.start()
        await self._until_serving(worker)

    # -- starting ------------------------------------------------------------------------------------------------------

    async def _start_redis(self) -> None:
        """From here on the topology has the URL of the server that is its own, if it is to have one."""
        if self.topology.redis != EMBEDDED:
            return
        from paceline.cluster import embedded_redis

        embedded_redis.check_embedded("redis")
        folder = Path(self._directory.name) / REDIS
        folder.mkdir()
        url, command = embedded_redis.embedded_url(folder), [sys.executable, "-m", embedded_redis.__name__, str(folder)]
        redis = Worker(REDIS, url, command, os.environ, self._log(REDIS), embedded_redis.is_answering)
        self.topology = dataclasses.replace(self.topology, redis=url)
        self._begin(redis)
        await self._until_serving(redis)

    def _start(self) -> None:
        spawn, http = self._spawn, self._reserve_http()
        self.gateway_addresses = start_all(self.topology, spawn, free_ports=self._free_ports, http_ports=http)

    def _reserve_http(self) -> list[int]:
        """The gateways' HTTP ports, held for them; -1: none."""
        wanted = http_ports(self.topology.gateway)
        if self.topology.gateway.http < 0:
            return wanted
        reservations = [Reservation(0 if self._free_ports else port) for port in wanted]
        self._reservations += reservations
        self.http_addresses = [f"127.0.0.1:{reservation.port}" for reservation in reservations]
        return [reservation.port for reservation in reservations]

    def _spawn(self, name: str, module: str, arguments: Sequence[str], port: int = 0) -> str:
        reservation = Reservation(port)
        self._reservations.append(reservation)
        command = [sys.executable, "-m", module, *arguments, "--port", str(reservation.port), "--exit-with-parent"]
        if module in WITH_METRICS:
            command += ["--metrics-port", str(self._reserve_metrics(name))]
        environment = {**os.environ, **PASSIVE_WAITING, "OMP_NUM_THREADS": _threads_of(arguments)}
        trust, role = operator_identity(self.topology), role_of(module)
        serving = functools.partial(rpc.is_serving, trust=trust, role=role)
        worker = Worker(name, f"127.0.0.1:{reservation.port}", command, environment, self._log(name), serving)
        self._begin(worker)
        return worker.address

    def _reserve_metrics(self, name: str) -> int:
        reservation = Reservation()
        self._reservations.append(reservation)
        self.metrics_addresses[name] = f"127.0.0.1:{reservation.port}"
        return reservation.port

    def _begin(self, worker: Worker) -> None:
        worker.start()
        self.workers.append(worker)

    def _log(self, name: str) -> Path | None:
        return None if self._show_logs else Path(self._directory.name) / f"{name}.log"

    async def _until_serving(self, worker: Worker) -> None:
        patience = self._start_timeout_seconds
        deadline = time.monotonic() + patience
        while not await worker.is_serving(worker.address):
            status = worker.process.poll()
            if status is not None:
                raise Unavailable(f"{worker.name} ended with status {status} while starting:\n{worker.last_words()}")
            if time.monotonic() > deadline:
                raise Unavailable(f"{worker.name} is not serving after {patience:.0f} s:\n{worker.last_words()}")
            await asyncio.sleep(0.05)


async def _end(workers: Sequence[Worker], grace_seconds: float) -> None:
    for worker in workers:
        worker.process.terminate()
    deadline = time.monotonic() + grace_seconds
    while any(worker.process.poll() is None for worker in workers) and time.monotonic() < deadline:
        with contextlib.suppress(asyncio.CancelledError):  # a second Ctrl-C must not leave children behind
            await asyncio.sleep(0.02)
    for worker in workers:
        worker.end()


Spawn = Callable[[str, str, Sequence[str], int], str]
"""Starts a worker by name, module, arguments and port (0: a free one), and returns its address."""


def start_all(topology: Topology, spawn: Spawn, *, free_ports: bool, http_ports: Sequence[int]) -> list[str]:
    """Spawns every worker of a fleet, what is dialled before what dials it; returns the addresses of its gateways.

    With Redis workers are announced, too: so those that were started elsewhere are found, and those that were replaced
    are told apart. Addresses are given all the same, for a fleet that starts while Redis is away.
    """
    spawn = _with_common(spawn, topology)
    drafter_addresses: list[str] = []
    verifier_addresses: list[str] = []
    served: dict[str, list[str]] = {}
    models: dict[str, list[str]] = {}
    threads = _verifier_threads(topology)
    for model in topology.models:
        pool = topology.verifiers[model.verifiers]
        names = replica_names(verifiers_name(topology, model), pool.replicas)
        arguments = [*verifier_arguments(model, pool, topology.redis), "--threads", str(threads)]
        verifiers = [spawn(name, "verifier_service", [*arguments, "--name", name], 0) for name in names]
        verifier_addresses += verifiers
        for pool_name in model.drafters:
            served.setdefault(pool_name, []).extend(verifiers)
            models.setdefault(pool_name, []).append(model.id)
    for pool_name, verifiers in served.items():  # one process for all the targets that name its pool
        drafters = topology.drafters[pool_name]
        for name in replica_names(pool_name, drafters.replicas):
            arguments = drafter_arguments(drafters, verifiers, name, topology.redis, models[pool_name])
            drafter_addresses.append(spawn(name, "drafter_service", arguments, 0))
    gateways = replica_names("gateway", topology.gateway.replicas)
    ports = [0] * len(gateways) if free_ports else grpc_ports(topology.gateway)
    addresses = []
    for name, grpc, http in zip(gateways, ports, http_ports, strict=True):
        arguments = gateway_arguments(verifier_addresses, drafter_addresses, http, topology.redis, name)
        arguments += api_keys_arguments(topology.gateway)
        addresses.append(spawn(name, "gateway", arguments, grpc))
    return addresses


def _with_common(spawn: Spawn, topology: Topology) -> Spawn:
    """The same, with what all workers get: telemetry as the topology says, and a certificate of its own where the fleet
    has certificates."""

    def spawn_with_common(name: str, module: str, arguments: Sequence[str], port: int) -> str:
        return spawn(name, module, [*arguments, *common_arguments(topology, module, name)], port)

    return spawn_with_common


def common_arguments(topology: Topology, module: str, name: str) -> list[str]:
    """Flags that do not depend on a worker's pool."""
    told = topology.telemetry.flags(gateway=role_of(module) is Role.GATEWAY)
    words = [word for key, value in told.items() for word in (flag(key), str(value))]
    return [*words, *(tls_arguments(topology.tls, module, name) if topology.tls else [])]


def tls_arguments(directory: str, module: str, name: str) -> list[str]:
    """Flags of a worker whose certificate lies in a fleet's folder of certificates."""
    identity = Identity.within(Path(directory), Party(role_of(module), name))
    files = {"--tls-cert": identity.certificate, "--tls-key": identity.key, "--tls-ca": identity.ca}
    return [word for name, file in files.items() for word in (name, str(file))]


def role_of(module: str) -> Role:
    """The role of a service, by the module that is run."""
    return Role(module.rpartition(".")[2].removesuffix("_service"))


def operator_identity(topology: Topology) -> Identity | None:
    """Whose certificate looks whether a fleet serves; None where it has none."""
    return Identity.within(Path(topology.tls), OPERATOR) if topology.tls else None


def verifiers_name(topology: Topology, model: ModelRoute) -> str:
    """A pool that several models name is started for each of them."""
    shared = sum(other.verifiers == model.verifiers for other in topology.models) > 1
    return f"{model.verifiers}-{model.id}" if shared else model.verifiers


def verifier_arguments(model: ModelRoute, pool: VerifierPool, redis: str | None) -> list[str]:
    """Flags of the verifiers of a pool."""
    return ["--target", model.target, "--model", model.id, *_redis(redis), *_set_flags(pool, FLEETS_VERIFIER_KEYS)]


def drafter_arguments(
    pool: DrafterPool, verifiers: Sequence[str], name: str, redis: str | None, models: Sequence[str]
) -> list[str]:
    """Flags of one drafter of a pool, which drafts for ``models``."""
    arguments = ["--verifiers", ",".join(verifiers), *_set_flags(pool, FLEETS_DRAFTER_KEYS)]
    if pool.snapshot:  # each replica has a memory of its own
        arguments += ["--snapshot", str(Path(pool.snapshot) / name)]
    if redis is not None:
        arguments += [*_redis(redis), "--models", ",".join(models)]
    return [*arguments, "--name", name]


def gateway_arguments(
    verifiers: Sequence[str], drafters: Sequence[str], http_port: int | None, redis: str | None, name: str
) -> list[str]:
    """Flags of a gateway; ``http_port`` None: it is added later."""
    arguments = ["--verifiers", ",".join(verifiers), *_redis(redis), "--name", name]
    arguments += ["--http-port", str(http_port)] if http_port is not None else []
    return [*arguments, "--drafters", ",".join(drafters)] if drafters else arguments


def api_keys_arguments(pool: GatewayPool) -> list[str]:
    """The gateway's flag for its file of keys, if it asks for keys."""
    return ["--api-keys", pool.api_keys] if pool.api_keys else []


def grpc_ports(pool: GatewayPool) -> list[int]:
    """What each gateway listens on; 0: a free one."""
    return pool.ports("grpc") or [0] * pool.replicas


def http_ports(pool: GatewayPool) -> list[int]:
    """Likewise; -1: none."""
    return pool.ports("http") or [pool.http] * pool.replicas


def replica_names(name: str, replicas: int) -> list[str]:
    """Names of the workers of a pool."""
    return [name] if replicas == 1 else [f"{name}-{index}" for index in range(replicas)]


def _set_flags(pool: VerifierPool | DrafterPool, left_out: Collection[str]) -> list[str]:
    return [word for name, value in set_values(pool, left_out).items() for word in (flag(name), str(value))]


def set_values(pool: VerifierPool | DrafterPool, left_out: Collection[str]) -> dict[str, Any]:
    """What a pool sets; defaults are left to the service, so that its environment counts."""
    values = {item.name: getattr(pool, item.name) for item in dataclasses.fields(pool) if item.name not in left_out}
    defaults = {item.name: item.default for item in dataclasses.fields(pool)}
    return {name: value for name, value in values.items() if value != defaults[name]}


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
