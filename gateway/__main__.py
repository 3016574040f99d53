"""``python -m gateway --verifiers ADDRESS --drafters ADDRESS``: wires the gateway together and serves it."""

from __future__ import annotations

import asyncio
import logging
import sys

from gateway.config import GatewayConfig
from gateway.service import Gateway
from gateway.servicer import GatewayServicer
from gateway.workers import DrafterWorker, VerifierWorker, start_all
from paceline import process, wire
from paceline.rpc import Server
from paceline.settings import parse

logger = logging.getLogger("gateway")


async def serve(config: GatewayConfig, stop: asyncio.Event) -> None:
    """Connects to the workers, listens, and is ready when a verifier and every reachable drafter are."""
    verifiers = [VerifierWorker(address) for address in config.verifiers]
    drafters = [DrafterWorker(address) for address in config.drafters]
    workers: list[VerifierWorker | DrafterWorker] = [*verifiers, *drafters]
    await start_all(workers)
    server = Server(["paceline.v1.GatewayService"])
    wire.add_gateway(GatewayServicer(Gateway(verifiers, drafters)), server.server)
    port = await server.start(config.host, config.port, insecure=config.insecure)
    while not stop.is_set() and not any(worker.healthy for worker in verifiers):  # noqa: ASYNC110 - gRPC has no event
        await asyncio.sleep(0.05)
    await server.ready()
    logger.info("%s serves on %s:%d", config.name, config.host, port)
    await stop.wait()
    await server.stop()
    await asyncio.gather(*(worker.close() for worker in workers))


def main() -> int:
    process.prepare()
    config = parse(GatewayConfig, None, "python -m gateway")
    return process.run(lambda stop: serve(config, stop), exit_with_parent=config.exit_with_parent)


if __name__ == "__main__":
    sys.exit(main())
