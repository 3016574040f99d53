"""``paceline up``: a fleet of local processes until Ctrl-C."""

from __future__ import annotations

import asyncio
import signal

import typer

from paceline.cluster.local import LocalCluster
from paceline.cluster.supervisor import Supervisor
from paceline.cluster.topology import Topology

LOOK_SECONDS = 0.25


async def run_up(topology: Topology) -> None:
    """Starts the fleet, says where it is, and keeps its workers alive."""
    stop, loop = asyncio.Event(), asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    async with LocalCluster(topology, show_logs=True, free_ports=False) as cluster:
        _say_where(cluster)
        supervisor = Supervisor(cluster.workers, lambda said: typer.echo(f"paceline: {said}", err=True))
        while not stop.is_set():
            supervisor.look()
            await _pause(stop)
    typer.echo("stopped")


def _say_where(cluster: LocalCluster) -> None:
    for grpc in cluster.gateway_addresses:
        typer.echo(f"gRPC on {grpc}: paceline generate 'def ' --gateway {grpc}")
    body = '{"prompt": "def ", "max_tokens": 32}'
    for http in cluster.http_addresses:
        typer.echo(f"HTTP on {http}: curl http://{http}/v1/completions -H 'Content-Type: application/json' -d '{body}'")


async def _pause(stop: asyncio.Event) -> None:
    try:
        await asyncio.wait_for(stop.wait(), timeout=LOOK_SECONDS)
    except TimeoutError:
        return
