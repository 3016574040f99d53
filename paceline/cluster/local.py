"""A fleet as local processes: started together, watched, and stopped together whatever happens."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from paceline import rpc
from paceline.cluster.topology import MODEL_KINDS, DrafterPool, ModelRoute, Topology
from paceline.errors import Unavailable
from paceline.process import PASSIVE_WAITING

START_TIMEOUT_SECONDS = 120.0
STOP_TIMEOUT_SECONDS = 5.0
_LOG_TAIL_LINES = 12
LOOK_UP_KEYS = (
    "tokenizer", "datastore", "memory_tokens", "suffix_decoding_max_tree_depth", "suffix_decoding_max_cached_requests",
    "suffix_decoding_max_spec_factor", "suffix_decoding_min_token_prob",
)  # fmt: skip


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
        self.gateway_address = ""
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
        """SIGTERM to all, then, after a while, SIGKILL."""
        for worker in self.workers:
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
            if worker.process.stdin:
                worker.process.stdin.close()
        for reservation in self._reservations:
            reservation.release()
        self._directory.cleanup()

    def worker(self, name: str) -> Worker:
        """The worker of this name."""
        return next(worker for worker in self.workers if worker.name == name)

    # -- starting ------------------------------------------------------------------------------------------------------

    def _start(self) -> None:
        verifier_addresses: list[str] = []
        drafters_of: dict[str, list[str]] = {}
        verifier_threads = _verifier_threads(self.topology)
        for model in self.topology.models:
            verifiers = self._start_verifiers(model, verifier_threads)
            verifier_addresses += verifiers
            for name in model.drafters:
                drafters_of.setdefault(name, []).extend(verifiers)
        drafter_addresses: list[str] = []
        for name, served in drafters_of.items():  # one process for all the targets that name its pool
            drafter_addresses += self._start_drafters(name, self.topology.drafters[name], served)
        port = 0 if self._free_ports else self.topology.gateway.grpc
        arguments = ["--verifiers", ",".join(verifier_addresses)]
        if drafter_addresses:
            arguments += ["--drafters", ",".join(drafter_addresses)]
        arguments += _redis(self.topology)
        self.gateway_address = self._spawn("gateway", "gateway", arguments, port)

    def _start_verifiers(self, model: ModelRoute, threads: int) -> list[str]:
        pool = self.topology.verifiers[model.verifiers]
        arguments = ["--target", model.target, "--model", model.id, "--device", pool.device, "--dtype", pool.dtype]
        arguments += ["--numerics", pool.numerics, "--emulate-step-time", pool.emulate_step_time]
        arguments += ["--emulate-acceptance", pool.emulate_acceptance]
        names = _replica_names(self._verifiers_name(model), pool.replicas)
        return [
            self._spawn(name, "verifier_service", [*arguments, "--name", name, "--threads", str(threads)])
            for name in names
        ]

    def _verifiers_name(self, model: ModelRoute) -> str:
        """A pool that several models name is started for each of them."""
        shared = sum(other.verifiers == model.verifiers for other in self.topology.models) > 1
        return f"{model.verifiers}-{model.id}" if shared else model.verifiers

    def _start_drafters(self, pool_name: str, pool: DrafterPool, verifiers: Sequence[str]) -> list[str]:
        arguments = ["--kind", pool.kind, "--verifiers", ",".join(verifiers), "--device", pool.device]
        arguments += ["--dtype", pool.dtype, "--price-per-hour", str(pool.price_per_hour)]
        arguments += ["--emulate-step-time", pool.emulate_step_time, "--emulate-link", pool.emulate_link]
        arguments += ["--draft-context", str(pool.draft_context)]
        if pool.model:
            arguments += ["--model", pool.model]
        arguments += look_up_arguments(pool)
        if pool.kind == "suffix":
            arguments += _redis(self.topology)
        names = _replica_names(pool_name, pool.replicas)
        return [
            self._spawn(name, "drafter_service", [*arguments, *_snapshot(pool, name), "--name", name]) for name in names
        ]

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


def _replica_names(name: str, replicas: int) -> list[str]:
    return [name] if replicas == 1 else [f"{name}-{index}" for index in range(replicas)]


def look_up_arguments(pool: DrafterPool) -> list[str]:
    """Flags for what a pool of look-up drafters has set."""
    keys = [name for name in LOOK_UP_KEYS if getattr(pool, name) != getattr(DrafterPool(pool.kind), name)]
    return [word for name in keys for word in (f"--{name.replace('_', '-')}", str(getattr(pool, name)))]


def _snapshot(pool: DrafterPool, name: str) -> list[str]:
    """Each replica has a memory, and so a snapshot, of its own."""
    return ["--snapshot", str(Path(pool.snapshot) / name)] if pool.snapshot else []


def _redis(topology: Topology) -> list[str]:
    return ["--redis", topology.redis] if topology.redis is not None else []


def _verifier_threads(topology: Topology) -> int:
    """Threads of all processes add up to the cores: one for each model drafter, one for all event loops together, the
    rest for the verifiers."""
    pools = [topology.drafters[name] for name in {name for model in topology.models for name in model.drafters}]
    models = sum(pool.replicas for pool in pools if pool.kind in MODEL_KINDS)
    verifiers = max(1, sum(topology.verifiers[model.verifiers].replicas for model in topology.models))
    return max(1, ((os.cpu_count() or 1) - models - 1) // verifiers)


def _threads_of(arguments: Sequence[str]) -> str:
    return arguments[arguments.index("--threads") + 1] if "--threads" in arguments else "1"
