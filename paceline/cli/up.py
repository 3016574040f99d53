"""``paceline up``: a fleet of local processes until Ctrl-C."""

from __future__ import annotations

import asyncio
import signal

import typer

from paceline.cluster.local import LocalCluster
from paceline.cluster.topology import Topology
from paceline.errors import Unavailable


async def run_up(topology: Topology) -> None:
    """Starts the fleet, says where it is, and watches it."""
    stop, loop = asyncio.Event(), asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    async with LocalCluster(topology, show_logs=True, free_ports=False) as cluster:
        grpc, http = cluster.gateway_address, cluster.http_address
        typer.echo(f"gRPC on {grpc}: paceline generate 'def ' --gateway {grpc}")
        if http:
            body = '{"prompt": "def ", "max_tokens": 32}'
            typer.echo(
                f"HTTP on {http}: curl http://{http}/v1/completions -H 'Content-Type: application/json' -d '{body}'"
            )
        while not stop.is_set():
            for worker in cluster.workers:
                if worker.process.poll() is not None:
                    raise Unavailable(f"{worker.name} ended with status {worker.process.returncode}")
            await _pause(stop)
    typer.echo("stopped")


async def _pause(stop: asyncio.Event) -> None:
    try:
        await asyncio.wait_for(stop.wait(), timeout=0.5)
    except TimeoutError:
        return
