"""``paceline up``: a fleet of local processes until Ctrl-C."""

from __future__ import annotations

import asyncio
import signal

import typer

from paceline.cluster.local import LocalCluster, operator_identity
from paceline.cluster.topology import Topology
from paceline.errors import Unavailable


async def run_up(topology: Topology) -> None:
    """Starts the fleet, says where it is, and watches it."""
    stop, loop = asyncio.Event(), asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    async with LocalCluster(topology, show_logs=True, free_ports=False) as cluster:
        for line in _how_to_ask(cluster):
            typer.echo(line)
        while not stop.is_set():
            for worker in cluster.workers:
                if worker.process.poll() is not None:
                    raise Unavailable(f"{worker.name} ended with status {worker.process.returncode}")
            await _pause(stop)
    typer.echo("stopped")


def _how_to_ask(cluster: LocalCluster) -> list[str]:
    """A line for each face of the gateway, with a command to try."""
    grpc, http, flags, options, scheme = cluster.gateway_address, cluster.http_address, "", "", "http"
    if trust := operator_identity(cluster.topology):
        files = (trust.ca, trust.certificate, trust.key)
        scheme, options = "https", "--cacert {} --cert {} --key {} ".format(*files)
        flags = " --tls-ca {} --tls-cert {} --tls-key {}".format(*files)
    lines = [f"gRPC on {grpc}: paceline generate 'def ' --gateway {grpc}{flags}"]
    if http:
        body = '{"prompt": "def ", "max_tokens": 32}'
        url, header = f"{scheme}://{http}/v1/completions", "-H 'Content-Type: application/json'"
        lines.append(f"{scheme.upper()} on {http}: curl {options}{url} {header} -d '{body}'")
    return lines


async def _pause(stop: asyncio.Event) -> None:
    try:
        await asyncio.wait_for(stop.wait(), timeout=0.5)
    except TimeoutError:
        return
