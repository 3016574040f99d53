"""``python -m gateway --verifiers ADDRESS --drafters ADDRESS``, or ``--redis URL``: wires the gateway together."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Callable
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING

from gateway.callers import Callers
from gateway.config import GatewayConfig
from gateway.meters import measure
from gateway.service import Gateway
from gateway.servicer import GatewayServicer
from gateway.vllm import VllmNames
from gateway.workers import DrafterWorker, VerifierWorker, start_all
from paceline import process, wire
from paceline.cluster.journal import Journal, MemoryJournal
from paceline.logs import get_logger
from paceline.rpc import Server
from paceline.security.identity import Identity
from paceline.security.settings import identity_of
from paceline.settings import parse
from paceline.telemetry import telemetry_of

if TYPE_CHECKING:  # imported where they are configured
    from gateway.http.server import HttpServer
    from paceline.cluster.fleet_memory import TextPublisher

logger = get_logger("gateway")


DRAFTER_PATIENCE_SECONDS = 10.0
"""A gateway is ready without its drafters, but not before it has given them a chance."""


async def serve(config: GatewayConfig, stop: process.Stop) -> None:
    """Connects to the workers, listens, and is ready when a verifier is there and the drafters had time to be."""
    callers = Callers.load(config.api_keys) if config.api_keys else Callers()
    identity = identity_of(config)
    verifiers = [VerifierWorker(address, identity) for address in config.verifiers]
    drafters = [DrafterWorker(address, identity) for address in config.drafters]
    configured: list[VerifierWorker | DrafterWorker] = [*verifiers, *drafters]
    await start_all(configured)
    publisher, journal = await _publisher(config), _journal(config)
    publish = publisher.publish if publisher else None
    telemetry = telemetry_of(config, "gateway", config.trace_ratio)
    gateway = Gateway(
        verifiers, drafters, config.bounds, config.sessions_per_verifier, publish, journal, config.failover_seconds,
        telemetry,
    )  # fmt: skip
    measure(gateway)
    if telemetry.on and config.metric_names == "vllm":
        VllmNames(gateway)
    async with AsyncExitStack() as stack:
        await _follow_registry(gateway, config, identity, stack)
        await _serve(gateway, callers, config, identity, stop)
    if publisher:
        await publisher.close()
    await journal.close()
    await asyncio.gather(*(worker.close() for worker in configured))
    await asyncio.to_thread(telemetry.shutdown)


async def _serve(
    gateway: Gateway, callers: Callers, config: GatewayConfig, identity: Identity | None, stop: process.Stop
) -> None:
    reserved, keyed = config.exit_with_parent, config.api_keys is not None
    tracer = gateway.telemetry.tracer
    server = Server(["paceline.v1.GatewayService"], reserved=reserved, identity=identity, keyed=keyed, tracer=tracer)
    wire.add_gateway(GatewayServicer(gateway, callers), server.server)
    port = await server.start(config.host, config.port, insecure=config.insecure)
    http = await _serve_http(gateway, callers, config) if config.http_port >= 0 else None
    await _until(lambda: any(worker.healthy for worker in gateway.verifiers), stop, timeout_seconds=None)
    await _until(lambda: all(worker.healthy for worker in gateway.drafters), stop, DRAFTER_PATIENCE_SECONDS)
    await server.ready(lambda: gateway.ailment is None)
    logger.info("serving", protocol="gRPC", host=config.host, port=port)
    await stop.wait()
    await server.drain()
    gateway.drain()
    await stop.grace(config.drain_seconds, lambda: not gateway.busy)
    gateway.give_up()
    await asyncio.gather(server.stop(), *([http.stop()] if http else []))


async def _follow_registry(
    gateway: Gateway, config: GatewayConfig, identity: Identity | None, stack: AsyncExitStack
) -> None:
    """For as long as ``stack`` is open the fleet has whoever is announced."""
    if config.redis is None:
        return
    from gateway.membership import Membership
    from paceline.cluster.announcing import ROLES
    from paceline.cluster.registry import Watcher

    membership = Membership(gateway.fleet, identity)
    watcher = Watcher(config.redis, ROLES, membership.follow)
    stack.push_async_callback(membership.close)
    stack.push_async_callback(watcher.close)
    await watcher.start()


def _journal(config: GatewayConfig) -> Journal:
    if config.redis is None:
        return MemoryJournal()
    from paceline.cluster.journal.redis_journal import RedisJournal

    return RedisJournal(config.redis)


async def _publisher(config: GatewayConfig) -> TextPublisher | None:
    if config.redis is None:
        return None
    from paceline.cluster.fleet_memory import TextPublisher

    publisher = TextPublisher(config.redis)
    await publisher.start()
    return publisher


async def _serve_http(gateway: Gateway, callers: Callers, config: GatewayConfig) -> HttpServer:
    """On the same event loop; what only HTTP needs is imported by who serves it."""
    from gateway.http.app import make_app
    from gateway.http.server import HttpServer

    identity, keyed = identity_of(config), config.api_keys is not None
    http = HttpServer(make_app(gateway, callers), reserved=config.exit_with_parent, identity=identity, keyed=keyed)
    port = await http.start(config.host, config.http_port, insecure=config.insecure)
    logger.info("serving", protocol="HTTPS" if identity else "HTTP", host=config.host, port=port)
    return http


async def _until(condition: Callable[[], bool], stop: process.Stop, timeout_seconds: float | None) -> None:
    deadline = None if timeout_seconds is None else time.monotonic() + timeout_seconds
    while not condition() and not stop.is_set() and (deadline is None or time.monotonic() < deadline):  # noqa: ASYNC110
        await asyncio.sleep(0.02)


def main() -> int:
    process.prepare()
    config = parse(GatewayConfig, None, "python -m gateway", "gateway")
    return process.run(lambda stop: serve(config, stop), name=config.name, exit_with_parent=config.exit_with_parent)


if __name__ == "__main__":
    sys.exit(main())
