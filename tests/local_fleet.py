"""A fleet in one process: real servers on loopback and real streams, with everything inside to look at."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from drafter_service.config import DrafterConfig
from drafter_service.links import Links
from drafter_service.loading import load_drafter
from drafter_service.service import Drafter
from drafter_service.servicer import DrafterServicer
from gateway.admission import Bounds
from gateway.callers import Callers
from gateway.service import FAILOVER_SECONDS, Gateway
from gateway.servicer import GatewayServicer
from gateway.workers import DrafterWorker, VerifierWorker, start_all
from paceline import wire
from paceline.checkpoint import read_tokenizer
from paceline.client import GatewayClient
from paceline.cluster.journal import Journal
from paceline.embedded import TARGET
from paceline.emulation import Pace
from paceline.engine.runner import ModelRunner, Numerics
from paceline.loop import DeviceLoop
from paceline.messages import Fingerprint, Generate, ModelInfo, VerifierDescription
from paceline.rpc import Server
from paceline.security.identity import Identity
from paceline.security.settings import identity_of
from paceline.speculation.policy import Mode, SpeculationParameters
from paceline.telemetry import OFF, Telemetry
from verifier_service.grammar.compiler import open_compiler
from verifier_service.service import Verifier
from verifier_service.servicer import VerifierServicer
from verifier_service.table import Limits

FINGERPRINT = Fingerprint("", "float32", "paceline", "cpu", 1, "standard")


@dataclass(frozen=True)
class LocalVerifier:
    address: str
    verifier: Verifier
    servicer: VerifierServicer

    @property
    def free_blocks(self) -> int:
        return self.verifier.load()[2]

    @property
    def idle(self) -> bool:
        """Whether nobody has a block."""
        _, _, free, total = self.verifier.load()
        return free == total


@dataclass(frozen=True)
class LocalDrafter:
    address: str
    drafter: Drafter


@dataclass(frozen=True)
class LocalGateway:
    address: str
    gateway: Gateway


@contextlib.asynccontextmanager
async def local_verifier(
    path: Path,
    name: str = "target",
    limits: Limits | None = None,
    step: str = "",
    numerics: Numerics = Numerics.STANDARD,
    stall_seconds: float = 30.0,
    identity: Identity | None = None,
    incarnation: int = 0,
) -> AsyncIterator[LocalVerifier]:
    """``step``: how long a forward takes at least, as ``5ms``."""
    runner, limits = ModelRunner.load(path, cache_tokens=16384, numerics=numerics), limits or Limits()
    runner.pace = Pace.parse(step)
    files, config = read_tokenizer(path), runner.config
    info = ModelInfo(name, config.vocabulary_size, config.max_context, files.tokenizer_hash, config.stop_token_ids)
    verifier = Verifier(runner, info, limits, compiler=open_compiler(info, files))

    def describe() -> VerifierDescription:
        load = verifier.load()
        return VerifierDescription(name, info, FINGERPRINT, limits.max_sessions, *load, incarnation=incarnation)

    server = Server(["paceline.v1.VerifierService"], identity=identity)
    steps = DeviceLoop("step loop", verifier, on_failure=_raise)
    servicer = VerifierServicer(verifier, describe, files, lambda: steps.stalled_seconds >= stall_seconds)
    wire.add_verifier(servicer, server.server)
    async with _looping(steps), serving(server) as address:
        yield LocalVerifier(address, verifier, servicer)


@contextlib.asynccontextmanager
async def local_drafter(config: DrafterConfig) -> AsyncIterator[LocalDrafter]:
    loaded = load_drafter(config)
    identity = identity_of(config)
    links = Links(loaded.drafter, config.verifiers, identity=identity)
    server = Server(["paceline.v1.DrafterService"], identity=identity)
    wire.add_drafter(DrafterServicer(loaded.drafter, links, loaded.describe), server.server)
    async with _looping(DeviceLoop("growing loop", loaded.drafter, on_failure=_raise)), serving(server) as address:
        yield LocalDrafter(address, loaded.drafter)
        await links.close()


@contextlib.asynccontextmanager
async def local_gateway(
    verifiers: Sequence[LocalVerifier],
    drafters: Sequence[LocalDrafter] = (),
    bounds: Bounds | None = None,
    callers: Callers | None = None,
    sessions_per_verifier: int = 0,
    journal: Journal | None = None,
    failover_seconds: float = FAILOVER_SECONDS,
    identity: Identity | None = None,
    telemetry: Telemetry = OFF,
) -> AsyncIterator[LocalGateway]:
    verifier_workers = [VerifierWorker(verifier.address, identity) for verifier in verifiers]
    drafter_workers = [DrafterWorker(drafter.address, identity) for drafter in drafters]
    gateway = Gateway(
        verifier_workers, drafter_workers, bounds, sessions_per_verifier, None, journal, failover_seconds, telemetry
    )
    workers: list[VerifierWorker | DrafterWorker] = [*verifier_workers, *drafter_workers]
    await start_all(workers)
    server = Server(
        ["paceline.v1.GatewayService"], identity=identity, keyed=callers is not None,
        tracer=telemetry.tracer,
    )  # fmt: skip
    wire.add_gateway(GatewayServicer(gateway, callers or Callers()), server.server)
    async with serving(server) as address:
        while not all(worker.healthy for worker in workers):  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        yield LocalGateway(address, gateway)
    await asyncio.gather(*(worker.close() for worker in workers))


async def target_alone(asked: Generate) -> list[int]:
    """The tokens that the embedded target says by itself, in this process."""
    asked = replace(asked, speculation=SpeculationParameters(Mode.OFF))
    async with (
        local_verifier(TARGET) as verifier,
        local_gateway([verifier]) as gateway,
        GatewayClient(gateway.address) as client,
    ):
        return [token_id async for chunk in client.generate(asked) for token_id in chunk.token_ids]


@contextlib.asynccontextmanager
async def serving(server: Server) -> AsyncIterator[str]:
    port = await server.start("127.0.0.1", 0, insecure=False)
    await server.ready()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        await server.stop(grace_seconds=0.0)


@contextlib.asynccontextmanager
async def _looping(loop: DeviceLoop) -> AsyncIterator[None]:
    loop.start()
    try:
        yield
    finally:
        await asyncio.to_thread(loop.stop)


def _raise(error: BaseException) -> None:
    raise error
