"""``paceline up --on ray``, ``status``, ``scale`` and ``down``: a fleet on a Ray cluster."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import typer
from rich.console import Console
from rich.table import Table

from paceline.cluster.topology import Topology
from paceline.errors import FieldError, Unavailable

if TYPE_CHECKING:  # ray is imported by whoever needs it
    from types import ModuleType

    from paceline.cluster.ray.managed import WorkerStatus

WATCH_SECONDS = 1.0
WIDE = 240
"""Columns where no terminal says how many there are: a worker is one line."""


def run_up(topology: Topology, address: str, *, insecure: bool, autoscale: bool) -> None:
    """Starts a fleet, or changes the one that is there, says how its workers come up, and leaves it there."""
    rows: Sequence[WorkerStatus] = ()
    with contextlib.redirect_stdout(sys.stderr), _fleet(address, show_logs=True) as fleet:  # where Ray prints logs
        fleet.up(topology, insecure=insecure, autoscale=autoscale)
        said: set[str] = set()
        for rows in fleet.until_serving():
            for line in (f"{row.name}: {row.phase}" for row in rows):
                if line not in said:
                    typer.echo(line, err=True)
                said.add(line)
    for row in rows:
        if row.role == "gateway":
            typer.echo(f"gRPC on {row.address}" + (f", HTTP on {row.http_address}" if row.http_address else ""))


def run_status(address: str, *, watch: bool) -> None:
    """Prints a table, with ``watch`` each second until Ctrl-C."""
    console = Console()
    if not console.is_terminal:
        console.width = WIDE
    with _fleet(address) as fleet:
        while True:
            status = fleet.status()
            if watch:
                console.clear()
            console.print(table(status.workers))
            for pool, replicas in status.advice.items():
                console.print(f"advice: paceline scale {pool}={replicas}")
            if not watch:
                return
            time.sleep(WATCH_SECONDS)


def run_scale(address: str, wanted: str) -> None:
    """``wanted`` as POOL=N."""
    pool, _, number = wanted.partition("=")
    if not (number.isascii() and number.isdecimal()):
        raise FieldError("scale", wanted, "POOL=N, as drafters.small=3")
    with _fleet(address) as fleet:
        fleet.scale(pool, int(number))


def run_down(address: str) -> None:
    with _fleet(address) as fleet:
        fleet.down()
    typer.echo("stopped")


def table(rows: Sequence[WorkerStatus]) -> Table:
    """One row for each worker."""
    shown = Table(box=None, pad_edge=False)
    for heading in ("pool", "name", "state", "address", "http", "restarts", "registry"):
        shown.add_column(heading, overflow="fold")
    for row in rows:
        announced = {None: "", True: "announced", False: "missing"}[row.announced]
        shown.add_row(row.pool, row.name, row.phase, row.address, row.http_address, str(row.restarts), announced)
    return shown


@contextlib.contextmanager
def _fleet(address: str, *, show_logs: bool = False) -> Iterator[ModuleType]:
    """What to ask about the fleet on the cluster at ``address``, while there is a connection."""
    try:
        from paceline.cluster.ray import connection, fleet
    except ModuleNotFoundError as error:
        raise Unavailable(f"{error.name} is not installed: pip install 'paceline[ray]'") from None
    with connection.connected(address, show_logs=show_logs):
        yield fleet
