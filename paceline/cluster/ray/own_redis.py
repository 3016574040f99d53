"""A Redis of the fleet's own, a child of the supervisor: for trying things out, since it is on one node."""

from __future__ import annotations

import asyncio
import os
import secrets
import shutil
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from paceline.cluster import embedded_redis
from paceline.cluster.child import Reservation, Worker
from paceline.errors import Unavailable

START_SECONDS = 10.0


@dataclass(frozen=True)
class RedisPlace:
    """Where it is, chosen before it starts: its address is in the flags of all workers."""

    host: str
    port: int
    password: str
    folder: Path

    @classmethod
    def choose(cls, host: str) -> RedisPlace:
        """On this node."""
        reservation = Reservation(0, host)
        reservation.release()
        folder = Path(tempfile.mkdtemp(prefix="paceline-redis-"))
        return cls(host, reservation.port, secrets.token_urlsafe(24), folder)

    @property
    def url(self) -> str:
        return f"redis://:{self.password}@{self.host}:{self.port}/0"


class OwnRedis:
    """Started, watched and stopped by one supervisor at a time."""

    def __init__(self, place: RedisPlace) -> None:
        self._place = place
        command = [sys.executable, "-m", embedded_redis.__name__, str(place.folder), place.host, str(place.port)]
        environment = {**os.environ, embedded_redis.PASSWORD: place.password}
        self._child = Worker("redis", place.url, command, environment, None)

    def start(self) -> None:
        """Returns once it answers; raises ``Unavailable`` if it does not."""
        self._place.folder.mkdir(exist_ok=True)
        self._child.start()
        deadline = time.monotonic() + START_SECONDS
        while not asyncio.run(embedded_redis.is_answering(self._place.url)):
            if time.monotonic() > deadline:
                raise Unavailable(f"redis does not answer on {self._place.host}:{self._place.port}")
            time.sleep(0.05)

    def look(self) -> None:
        """Starts it again if it has ended."""
        if self._child.process.poll() is not None:
            self._child.end()
            self._child.start()

    def stop(self) -> None:
        """With all that it knew."""
        self._child.end()
        shutil.rmtree(self._place.folder, ignore_errors=True)
