"""Processes by their ids: killed, stopped, continued, and looked at (Linux, /proc)."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

LOOK_SECONDS = 0.01
_TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")
_STATE, _USER_TICKS, _SYSTEM_TICKS = 0, 11, 12
"""Fields of /proc/PID/stat after the name."""


@dataclass(frozen=True)
class Held:
    """What a process has open, to be compared with what it had before."""

    file_descriptors: int
    threads: int
    resident_bytes: int


@dataclass(frozen=True)
class Process:
    """A process that runs, whoever started it."""

    pid: int

    def kill(self) -> None:
        """SIGKILL: it has no chance to say goodbye."""
        os.kill(self.pid, signal.SIGKILL)

    def pause(self) -> None:
        """SIGSTOP: it is there and does nothing; its connections stay open."""
        os.kill(self.pid, signal.SIGSTOP)

    def resume(self) -> None:
        """SIGCONT."""
        os.kill(self.pid, signal.SIGCONT)

    def terminate(self) -> None:
        """SIGTERM: it is asked to end in order."""
        os.kill(self.pid, signal.SIGTERM)

    @property
    def alive(self) -> bool:
        """Whether it runs or is paused; what has ended and was not waited for is not alive."""
        fields = self._stat()
        return fields is not None and fields[_STATE] not in ("Z", "X")

    @property
    def paused(self) -> bool:
        fields = self._stat()
        return fields is not None and fields[_STATE] == "T"

    @property
    def cpu_seconds(self) -> float:
        """Processor time that it has taken, all its threads together."""
        fields = self._stat()
        return 0.0 if fields is None else (int(fields[_USER_TICKS]) + int(fields[_SYSTEM_TICKS])) / _TICKS_PER_SECOND

    def held(self) -> Held:
        """Raises ``OSError`` if it is gone."""
        root = Path(f"/proc/{self.pid}")
        pages = int((root / "statm").read_text().split()[1])
        return Held(
            file_descriptors=len(list((root / "fd").iterdir())),
            threads=len(list((root / "task").iterdir())),
            resident_bytes=pages * os.sysconf("SC_PAGE_SIZE"),
        )

    async def ended(self, timeout_seconds: float = 10.0) -> None:
        """Returns when it is dead; raises ``TimeoutError``."""

        async def dead() -> bool:
            return not self.alive

        await until(dead, timeout_seconds)

    def _stat(self) -> list[str] | None:
        try:
            return Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            return None


async def until(condition: Callable[[], Awaitable[bool]], timeout_seconds: float = 10.0) -> float:
    """Waits for a condition, such as that a service serves again; the seconds it took. Raises ``TimeoutError``."""
    started = time.monotonic()
    async with asyncio.timeout(timeout_seconds):
        while not await condition():  # noqa: ASYNC110 - what is waited for sets no event here
            await asyncio.sleep(LOOK_SECONDS)
    return time.monotonic() - started


def children(pid: int) -> list[int]:
    """Processes that a process has started and that are there still."""
    found = []
    for file in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):  # it has ended
            if int(file.read_text().rpartition(")")[2].split()[1]) == pid:
                found.append(int(file.parent.name))
    return found
