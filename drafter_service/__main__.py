"""``python -m drafter_service --kind KIND --verifiers ADDRESS``: wires a drafter together and serves it."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import replace
from typing import TYPE_CHECKING

from drafter_service.config import DrafterConfig
from paceline import process
from paceline.cluster.announcing import DRAFTER, VERIFIER, Announcement, announced, claim
from paceline.logs import get_logger
from paceline.security.settings import identity_of
from paceline.settings import parse
from paceline.telemetry import telemetry_of

if TYPE_CHECKING:
    from drafter_service.links import Links
    from drafter_service.loading import Loaded
    from drafter_service.service import Drafter
    from paceline.loop import DeviceLoop
    from paceline.telemetry.serving import MetricsServer

logger = get_logger("drafter_service")


async def serve(config: DrafterConfig, stop: process.Stop) -> None:
    """Loads the drafter, listens, and drafts until told to stop."""
    from drafter_service.links import Links
    from drafter_service.loading import load_drafter
    from drafter_service.servicer import DrafterServicer
    from paceline import wire
    from paceline.emulation import EmulatedLink
    from paceline.loop import DeviceLoop
    from paceline.rpc import Server

    failure = process.Failure(stop)
    loaded = await asyncio.to_thread(load_drafter, config)
    drafter = loaded.drafter
    drafter.telemetry = telemetry_of(config, "drafter")
    drafter.incarnation = await claim(config.redis, DRAFTER, config.worker_name)
    identity = identity_of(config)
    links = Links(drafter, config.verifiers, EmulatedLink.parse(config.emulate_link), identity)
    growing = DeviceLoop("growing loop", drafter, on_failure=failure.report)
    server = Server(["paceline.v1.DrafterService"], reserved=config.exit_with_parent, identity=identity)
    servicer = DrafterServicer(drafter, links, lambda: replace(loaded.describe(), verifiers=links.allowed))
    wire.add_drafter(servicer, server.server)
    growing.start()
    if loaded.reader:
        await loaded.reader.start()
    port = await server.start(config.host, config.port, insecure=config.insecure)
    await server.ready(lambda: growing.stalled_seconds < config.stall_seconds)
    metrics = _metrics(config, drafter, growing)
    logger.info("serving", kind=config.kind, host=config.host, port=port)
    said = Announcement(config.worker_name, DRAFTER, config.advertise or f"{config.host}:{port}", drafter.incarnation)
    async with AsyncExitStack() as stack:
        await _follow_verifiers(config, links, stack)
        await stack.enter_async_context(announced(config.redis, said, failure.report))
        await stop.wait()
    await server.drain()
    drafter.drain()
    await stop.grace(config.drain_seconds, lambda: drafter.attached_sessions == 0)
    await server.stop()
    await links.close()
    await asyncio.to_thread(growing.stop)
    await asyncio.to_thread(metrics.stop)
    await _close(loaded)
    failure.check()


def _metrics(config: DrafterConfig, drafter: Drafter, growing: DeviceLoop) -> MetricsServer:
    """Served from now on, if they are to be."""
    from drafter_service.meters import measure
    from paceline.telemetry.serving import MetricsServer

    measure(drafter, growing, config.price_per_hour)
    metrics = MetricsServer(drafter.telemetry, identity_of(config))
    if config.metrics_port >= 0:
        metrics.start(config.host, config.metrics_port, reserved=config.exit_with_parent)
    return metrics


async def _close(loaded: Loaded) -> None:
    if loaded.reader:
        await loaded.reader.close()
    await asyncio.to_thread(loaded.drafter.kind.stop)
    await asyncio.to_thread(loaded.drafter.telemetry.shutdown)


async def _follow_verifiers(config: DrafterConfig, links: Links, stack: AsyncExitStack) -> None:
    """Lets the links know of announced verifiers for as long as ``stack`` is open."""
    if config.redis is None:
        return
    from paceline.cluster.registry import Watcher

    async def take(known: Sequence[Announcement]) -> None:
        links.announced(each.address for each in known if not config.models or each.model in config.models)

    watcher = Watcher(config.redis, [VERIFIER], take)
    await watcher.start()
    stack.push_async_callback(watcher.close)


def main() -> int:
    process.prepare()
    config = parse(DrafterConfig, None, "python -m drafter_service", "drafter")
    return process.run(
        lambda stop: serve(config, stop), name=config.worker_name, exit_with_parent=config.exit_with_parent
    )


if __name__ == "__main__":
    sys.exit(main())
