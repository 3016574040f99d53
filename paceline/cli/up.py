"""``paceline up``: a fleet of local processes until Ctrl-C."""

from __future__ import annotations

import asyncio
import signal

import typer

from paceline.cluster.local import LocalCluster, operator_identity
from paceline.cluster.supervisor import Supervisor
from paceline.cluster.topology import Topology

LOOK_SECONDS = 0.25


async def run_up(topology: Topology) -> None:
    """Starts the fleet, says where it is, and keeps its workers alive."""
    stop, loop = asyncio.Event(), asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    async with LocalCluster(topology, show_logs=True, free_ports=False) as cluster:
        for line in _how_to_ask(cluster):
            typer.echo(line)
        supervisor = Supervisor(cluster.workers, lambda said: typer.echo(f"paceline: {said}", err=True))
        while not stop.is_set():
            supervisor.look()
            await _pause(stop)
    typer.echo("stopped")


def _how_to_ask(cluster: LocalCluster) -> list[str]:
    """A line for each face of each gateway, with a command to try."""
    flags, options, scheme = "", "", "http"
    if trust := operator_identity(cluster.topology):
        files = (trust.ca, trust.certificate, trust.key)
        scheme, options = "https", "--cacert {} --cert {} --key {} ".format(*files)
        flags = " --tls-ca {} --tls-cert {} --tls-key {}".format(*files)
    addresses = cluster.gateway_addresses
    lines = [f"gRPC on {grpc}: paceline generate 'def ' --gateway {grpc}{flags}" for grpc in addresses]
    body, header = '{"prompt": "def ", "max_tokens": 32}', "-H 'Content-Type: application/json'"
    for http in cluster.http_addresses:
        url = f"{scheme}://{http}/v1/completions"
        lines.append(f"{scheme.upper()} on {http}: curl {options}{url} {header} -d '{body}'")
    gateways = dict.fromkeys(cluster.http_addresses, "gateway")
    workers = {address: name for name, address in cluster.metrics_addresses.items()}
    pages = [f"{name} {scheme}://{address}/metrics" for address, name in (gateways | workers).items()]
    return [*lines, f"Metrics: {', '.join(pages)}"]


async def _pause(stop: asyncio.Event) -> None:
    try:
        await asyncio.wait_for(stop.wait(), timeout=LOOK_SECONDS)
    except TimeoutError:
        return
