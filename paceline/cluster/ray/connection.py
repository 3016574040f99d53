"""Being connected to a Ray cluster, or being told in time why not."""

from __future__ import annotations

import contextlib
import logging
import socket
from collections.abc import Iterator

import ray
from ray.exceptions import RayError

from paceline.cluster.ray import actors
from paceline.cluster.ray.managed import reason
from paceline.errors import Unavailable
from paceline.speculation.fields import require

AUTO = "auto"
"""In place of an address: the cluster that this machine is in."""
CONNECT_SECONDS = 5.0


@contextlib.contextmanager
def connected(address: str, *, show_logs: bool = False) -> Iterator[None]:
    """Inside, Ray's cluster at ``address`` is there. Raises ``FieldError`` and ``Unavailable``.

    ``show_logs``: of the workers that are started meanwhile.
    """
    if address != AUTO:
        _check(address)
    try:
        ray.init(address=address, namespace=actors.NAMESPACE, logging_level=logging.WARNING, log_to_driver=show_logs)
    except (ConnectionError, RuntimeError, ValueError, RayError) as error:
        raise _nobody(address, reason(error)) from None
    try:
        yield
    finally:
        ray.shutdown()


def _check(address: str) -> None:
    """Ray itself waits for minutes where nobody listens, and starts a cluster at other words than ``auto``."""
    host, _, port = address.rpartition(":")
    possible = bool(host) and "/" not in host and port.isdecimal() and 0 < int(port) < 65536
    require(possible, "address", address, f"HOST:PORT of a Ray cluster's head, or {AUTO}")
    try:
        socket.create_connection((host.strip("[]"), int(port)), CONNECT_SECONDS).close()
    except (OSError, UnicodeError) as error:
        raise _nobody(address, str(error)) from None


def _nobody(address: str, why: str) -> Unavailable:
    return Unavailable(f"no Ray cluster at {address} ('ray start --head' starts one): {why}")
