"""A full disk, for real: what a process writes to files fails as on a device without room.

``RLIMIT_FSIZE`` bounds the size of every file that a process writes; with SIGXFSZ ignored a write beyond it fails with
EFBIG, an ``OSError`` like ENOSPC. Pipes and sockets are not files: everything else goes on. Where the log itself is to
find no room, ``/dev/full`` answers every write with ENOSPC.
"""

from __future__ import annotations

import contextlib
import resource
import signal
from collections.abc import Iterator
from pathlib import Path

NO_ROOM = Path("/dev/full")


def fill_disk(room_bytes: int = 0, pid: int = 0) -> None:
    """From now on files of a process (0: this one) end at ``room_bytes``; it must ignore SIGXFSZ, as Python does."""
    _, hard = resource.prlimit(pid, resource.RLIMIT_FSIZE)
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (room_bytes, hard))


def free_disk(pid: int = 0) -> None:
    """There is room again."""
    _, hard = resource.prlimit(pid, resource.RLIMIT_FSIZE)
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (hard, hard))


@contextlib.contextmanager
def full_disk(room_bytes: int = 0) -> Iterator[None]:
    """In this process, while the context lasts."""
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    fill_disk(room_bytes)
    try:
        yield
    finally:
        free_disk()
        signal.signal(signal.SIGXFSZ, handler)
