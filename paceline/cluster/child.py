"""A worker of a fleet as a child process, and the port that is kept for it."""

from __future__ import annotations

import contextlib
import socket
import subprocess
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from paceline import rpc
from paceline.logs import readable

LOG_TAIL_LINES = 12


class Reservation:
    """A free port, held before, between and after the processes that bind it, too (SO_REUSEPORT): nobody else can."""

    def __init__(self, port: int = 0, host: str = "127.0.0.1") -> None:
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        self._socket.bind((host, port))
        self.port: int = self._socket.getsockname()[1]

    def release(self) -> None:
        self._socket.close()


@dataclass
class Worker:
    """A child process and the address that it serves, the same each time that it is started."""

    name: str
    address: str
    command: Sequence[str]
    environment: Mapping[str, str]
    log: Path | None
    is_serving: Callable[[str], Awaitable[bool]] = rpc.is_serving
    """Asked with the address."""
    process: subprocess.Popen[bytes] = field(init=False)

    def start(self) -> None:
        """A new process; that of before, if there was one, must be over."""
        with contextlib.ExitStack() as stack:
            output = stack.enter_context(self.log.open("ab")) if self.log else None
            self.process = subprocess.Popen(
                self.command,
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=output,
                env=self.environment,
                start_new_session=True,
            )

    def end(self) -> None:
        """Kills the process if it is still there, and frees what we hold of it."""
        self.process.kill()
        self.process.wait()
        if self.process.stdin:
            self.process.stdin.close()

    def last_words(self) -> str:
        """The end of its log, for people; empty: it has none of its own."""
        if self.log is None:
            return ""
        lines = self.log.read_text(errors="replace").splitlines()[-LOG_TAIL_LINES:]
        return "\n".join("\n".join(map(readable, lines)).splitlines()[-LOG_TAIL_LINES:])
