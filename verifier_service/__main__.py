"""``python -m verifier_service --target PATH``: wires the verifier together and serves it."""

from __future__ import annotations

import asyncio
import sys
import time
from typing import TYPE_CHECKING

from paceline import process
from paceline.cluster.announcing import VERIFIER, Announcement, announced, claim
from paceline.logs import get_logger
from paceline.security.settings import identity_of
from paceline.settings import parse
from paceline.telemetry import Telemetry, telemetry_of
from verifier_service.config import VerifierConfig

if TYPE_CHECKING:  # torch and grpc are imported once the settings are known to be right
    from paceline.loop import DeviceLoop
    from paceline.rpc import Server
    from paceline.telemetry.serving import MetricsServer
    from verifier_service.loading import Target
    from verifier_service.service import Verifier
    from verifier_service.servicer import VerifierServicer

logger = get_logger("verifier_service")


async def serve(config: VerifierConfig, stop: process.Stop) -> None:
    """Loads the model, runs its first forwards, then listens and says SERVING for as long as steps go on."""
    from paceline.loop import DeviceLoop
    from verifier_service.loading import load_target

    started, failure = time.monotonic(), process.Failure(stop)
    target = await asyncio.to_thread(load_target, config)
    telemetry = telemetry_of(config, "verifier")
    verifier = _verifier(config, target, telemetry)
    steps = DeviceLoop("step loop", verifier, on_failure=failure.report)
    incarnation = await claim(config.redis, VERIFIER, config.name)
    server, servicer = _server(config, target, verifier, steps, incarnation)
    steps.start()
    port = await server.start(config.host, config.port, insecure=config.insecure)
    await server.ready(lambda: steps.stalled_seconds < config.stall_seconds)
    metrics = _metrics(config, verifier, steps)
    took, model = time.monotonic() - started, target.info.name
    logger.info("serving", model=model, host=config.host, port=port, start_seconds=round(took, 1))
    said = Announcement(config.name, VERIFIER, config.advertise or f"{config.host}:{port}", incarnation, model)
    async with announced(config.redis, said, failure.report):
        await stop.wait()
    await server.drain()
    servicer.drain()
    await stop.grace(config.drain_seconds, lambda: not verifier.busy)
    servicer.close()
    await server.stop()
    await asyncio.to_thread(steps.stop)
    await asyncio.to_thread(metrics.stop)
    await asyncio.to_thread(telemetry.shutdown)
    failure.check()


def _verifier(config: VerifierConfig, target: Target, telemetry: Telemetry) -> Verifier:
    from paceline.synthetic import synthetic_choices
    from verifier_service.service import Verifier
    from verifier_service.table import Limits

    limits = Limits(config.max_sessions, config.max_waiting, config.prefill_chunk, config.max_rows)
    synthetic = synthetic_choices(config.emulate_acceptance)
    return Verifier(
        target.runner,
        target.info,
        limits,
        target.cost,
        synthetic=synthetic,
        compiler=target.compiler,
        name=config.name,
        telemetry=telemetry,
    )


def _metrics(config: VerifierConfig, verifier: Verifier, steps: DeviceLoop) -> MetricsServer:
    """Served from now on, if they are to be."""
    from paceline.telemetry.serving import MetricsServer
    from verifier_service.meters import measure

    measure(verifier, steps)
    metrics = MetricsServer(verifier.telemetry, identity_of(config))
    if config.metrics_port >= 0:
        metrics.start(config.host, config.metrics_port, reserved=config.exit_with_parent)
    return metrics


def _server(
    config: VerifierConfig, target: Target, verifier: Verifier, steps: DeviceLoop, incarnation: int
) -> tuple[Server, VerifierServicer]:
    """Not listening yet."""
    from paceline import wire
    from paceline.messages import VerifierDescription
    from paceline.rpc import Server
    from verifier_service.servicer import VerifierServicer

    def describe() -> VerifierDescription:
        return VerifierDescription(
            config.name, target.info, target.fingerprint, config.max_sessions, *verifier.load(),
            incarnation=incarnation,
        )  # fmt: skip

    server = Server(["paceline.v1.VerifierService"], reserved=config.exit_with_parent, identity=identity_of(config))
    servicer = VerifierServicer(
        verifier, describe, target.tokenizer, stalled=lambda: steps.stalled_seconds >= config.stall_seconds
    )
    wire.add_verifier(servicer, server.server)
    return server, servicer


def main() -> int:
    process.prepare()
    config = parse(VerifierConfig, None, "python -m verifier_service", "verifier")
    return process.run(lambda stop: serve(config, stop), name=config.name, exit_with_parent=config.exit_with_parent)


if __name__ == "__main__":
    sys.exit(main())
