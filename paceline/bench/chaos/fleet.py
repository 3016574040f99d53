"""The fleet that suffers: what of it is killed or stopped, when it is well again, and what it holds."""

from __future__ import annotations

import asyncio
import signal
import time
import urllib.request
from dataclasses import dataclass
from typing import Any

import grpc

from paceline import rpc, wire
from paceline.bench.chaos.load import Load
from paceline.bench.chaos.schedule import STOPPED_SECONDS, WORKERS, Fault
from paceline.client import GatewayClient
from paceline.cluster.local import REDIS, LocalCluster
from paceline.cluster.topology import EMBEDDED, DrafterPool, GatewayPool, ModelRoute, Topology, VerifierPool
from paceline.embedded import DRAFT, MODEL_ID, TARGET
from paceline.testing.processes import Process, until

WELL_SECONDS = 90.0
SETTLED_SECONDS = 15.0
SLACK = 6
"""File descriptors and tasks that a process may have more than before: connections to peers that were replaced."""
GRACE_SECONDS = 40.0
"""For who is asked to stop, to finish what it has in hand."""


@dataclass(frozen=True)
class Held:
    """What a worker has open while nobody asks for anything."""

    file_descriptors: int
    tasks: int


class ChaosFleet(LocalCluster):
    """Two gateways, two verifiers of which each is the other's warm spare, three drafters, and a Redis."""

    def __init__(self, numerics: str) -> None:
        super().__init__(
            Topology(
                models=(ModelRoute(MODEL_ID, str(TARGET), "big", ("small", "lookup", "suffix")),),
                verifiers={"big": VerifierPool(replicas=2, numerics=numerics)},
                drafters={
                    "small": DrafterPool("model", model=str(DRAFT)),
                    "lookup": DrafterPool("ngram"),
                    "suffix": DrafterPool("suffix", tokenizer=str(TARGET)),
                },
                gateway=GatewayPool(replicas=2),
                redis=EMBEDDED,
            )
        )

    async def suffer(self, fault: Fault, load: Load) -> dict[str, Any]:
        """Has a worker fail while sessions run, and returns once all is well again: how long the longest silence of a
        session was, and how long the worker was missing."""

        async def flowing() -> bool:
            return load.flowing

        await until(flowing, WELL_SECONDS)
        names = WORKERS.get(fault.kind, (REDIS,))
        name, failed_at = names[fault.turn % len(names)], time.monotonic()
        process = Process(self.worker(name).process.pid)
        if fault.action == "kill":
            self.kill(name, signal.SIGKILL)
            serving = asyncio.create_task(self.restart(name))
        elif fault.action == "restart":
            serving = asyncio.create_task(self.restart(name, GRACE_SECONDS))
        else:
            process.pause()
            serving = asyncio.create_task(_resume_later(process))
        silence = await load.longest_silence(failed_at)
        await serving
        await until(self.well, WELL_SECONDS)
        return {
            "fault": fault.name,
            "worker": name,
            "recovery_s": silence,
            "serving_s": time.monotonic() - failed_at,
        }

    async def well(self) -> bool:
        """Whether every gateway sees every worker."""
        for address in self.gateway_addresses:
            if not await rpc.is_serving(address):
                return False
            try:
                async with GatewayClient(address) as client:
                    rows = await client.workers()
            except grpc.aio.AioRpcError:
                return False
            if len(rows) < len((*WORKERS["verifier"], *WORKERS["drafter"])) or not all(row.healthy for row in rows):
                return False
        return True

    # -- what is held --------------------------------------------------------------------------------------------------

    async def held(self) -> dict[str, Held]:
        """By worker, now that nobody asks for anything."""
        await until(self._idle, SETTLED_SECONDS)
        tasks = dict(zip(WORKERS["gateway"], await asyncio.gather(*map(_tasks, self.http_addresses)), strict=True))
        return {
            worker.name: Held(Process(worker.process.pid).held().file_descriptors, tasks.get(worker.name, 0))
            for worker in self.workers
        }

    async def leaks(self, before: dict[str, Held]) -> list[str]:
        """What is left of requests that are over; nothing, if all is well."""
        try:
            await until(self._idle, SETTLED_SECONDS)
        except TimeoutError:
            return [f"sessions or blocks are held: {await self._busy()}"]
        found, deadline = await self._more_than(before), time.monotonic() + SETTLED_SECONDS
        while found and time.monotonic() < deadline:  # connections to those that were killed go in their own time
            await asyncio.sleep(0.5)
            found = await self._more_than(before)
        return found

    async def _more_than(self, before: dict[str, Held]) -> list[str]:
        return [
            f"{name}: {before[name]} before, {now} now"
            for name, now in (await self.held()).items()
            if now.file_descriptors > before[name].file_descriptors + SLACK or now.tasks > before[name].tasks + SLACK
        ]

    async def _idle(self) -> bool:
        try:
            return not any((await self._busy()).values())
        except grpc.aio.AioRpcError:
            return False

    async def _busy(self) -> dict[str, int]:
        """Sessions and blocks by worker."""
        busy = {}
        for name in WORKERS["verifier"]:
            async with rpc.channel(self.worker(name).address) as connection:
                request = wire.verifier.DescribeVerifierRequest()
                known = wire.from_verifier_description(await wire.verifier_stub(connection).Describe(request))
            busy[name] = known.running_sessions + known.waiting_sessions + known.total_blocks - known.free_blocks
        for name in WORKERS["drafter"]:
            async with rpc.channel(self.worker(name).address) as connection:
                asked = wire.drafter.DescribeDrafterRequest()
                drafter = wire.from_drafter_description(await wire.drafter_stub(connection).Describe(asked))
            busy[name] = drafter.attached_sessions
        for address in self.gateway_addresses:
            async with GatewayClient(address) as client:
                busy[address] = sum(row.sessions for row in await client.workers())
        return busy


async def _resume_later(process: Process) -> None:
    await asyncio.sleep(STOPPED_SECONDS)
    process.resume()


async def _tasks(address: str) -> int:
    """Of a gateway's event loop."""

    def read() -> str:
        with urllib.request.urlopen(f"http://{address}/metrics", timeout=10) as reply:
            return str(reply.read().decode())

    text = await asyncio.to_thread(read)
    return next(int(float(line.split()[1])) for line in text.splitlines() if line.startswith("paceline_tasks "))
