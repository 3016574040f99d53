"""What every service process does: quiet threads, signals, and an end when its parent ends."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import signal
import sys
import time
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeVar

import uvloop

from paceline import logs
from paceline.speculation.fields import FieldError

SWITCH_INTERVAL_SECONDS = 5e-4
"""The event loop must not wait 5 ms for the interpreter while the engine's thread holds it."""

PASSIVE_WAITING = {"OMP_WAIT_POLICY": "PASSIVE", "KMP_BLOCKTIME": "1", "GOMP_SPINCOUNT": "10000"}
"""OpenMP threads that spin on after a step would steal the core of the process beside them; but those that sleep
between two products of one forward double its time, so they spin for some ten microseconds (docs/log.md)."""

KEPT_BYTES, LARGEST_KEPT_BYTES = 512 << 20, 32 << 20
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # as in malloc.h

logger = logs.get_logger(__name__)

GRACE_TURN_SECONDS = 0.02

ResultT = TypeVar("ResultT")


class Stop(asyncio.Event):
    """Set when a service is to stop, after what it has in hand; with ``at_once`` set, too, without finishing it."""

    def __init__(self) -> None:
        super().__init__()
        self.at_once = asyncio.Event()

    def ask(self) -> None:
        """Who asks twice means at once."""
        if self.is_set():
            self.at_once.set()
        self.set()

    def end(self) -> None:
        """At once."""
        self.at_once.set()
        self.set()

    async def grace(self, seconds: float, done: Callable[[], bool]) -> None:
        """Lets what is in hand come to its end: until ``done``, for so long at most, or until it is to be at once."""
        deadline = time.monotonic() + seconds
        while not (done() or self.at_once.is_set() or time.monotonic() >= deadline):  # noqa: ASYNC110 - on threads
            await asyncio.sleep(GRACE_TURN_SECONDS)


Service = Callable[[Stop], Awaitable[None]]
"""Serves until it is to stop, then closes down in order; raises ``ServiceFailed`` if it had to give up."""


class ServiceFailed(Exception):
    """A service could not go on."""


def keep_freed_memory() -> None:
    """Tells glibc to keep what is freed, up to a bound, for the next step.

    A step's larger temporaries would else be given back to the system and faulted in again page by page, which made
    steps over many sessions up to twice as slow. Other allocators are left alone.
    """
    with contextlib.suppress(OSError, AttributeError):
        mallopt = ctypes.CDLL("libc.so.6").mallopt
        mallopt(_M_TRIM_THRESHOLD, KEPT_BYTES)
        mallopt(_M_MMAP_THRESHOLD, LARGEST_KEPT_BYTES)


def prepare() -> None:
    """Settings that must be made before torch is imported, and where log lines go; exits with status 2, and a line for
    every error, where the environment is wrong about that."""
    for name, value in PASSIVE_WAITING.items():
        os.environ.setdefault(name, value)
    keep_freed_memory()
    sys.setswitchinterval(SWITCH_INTERVAL_SECONDS)
    try:
        logs.configure()
    except FieldError as found:
        for error in found.errors:
            sys.stderr.write(f"error: {error.field} {error.value}: expected {error.expected}\n")
        raise SystemExit(2) from None


def interruptible() -> None:
    """SIGINT and SIGTERM raise ``KeyboardInterrupt`` from now on, also in a process that a shell has put into the
    background, deaf to SIGINT."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))


def run(service: Service, *, name: str, exit_with_parent: bool) -> int:
    """Runs ``service``, whose log lines say its ``name``, and returns the exit status. SIGTERM asks it to finish what
    it has in hand and stop; a second one, SIGINT and, if asked for, the end of standard input stop it at once."""
    logs.name_worker(name)
    logs.log_uncaught()
    try:
        run_async(_supervise(service, exit_with_parent=exit_with_parent))
    except KeyboardInterrupt:
        return 130
    except ServiceFailed:
        return 1
    except FieldError as error:  # a setting that only loading could find wrong
        logger.error("a setting is wrong", error=error)  # noqa: TRY400 - where it came from does not matter
        return 2
    return 0


class Failure:
    """Remembers why a service stops, so that its process does not end as if all were well."""

    def __init__(self, stop: Stop) -> None:
        self._stop, self._loop = stop, asyncio.get_running_loop()
        self._error: BaseException | None = None

    def report(self, error: BaseException) -> None:
        """May be called from any thread; the service stops."""
        self._error = error
        self._loop.call_soon_threadsafe(self._stop.end)

    def check(self) -> None:
        """Raises ``ServiceFailed`` if something was reported."""
        if self._error is not None:
            raise ServiceFailed from self._error


def run_async(work: Coroutine[Any, Any, ResultT]) -> ResultT:
    """``asyncio.run`` on uvloop, whose gRPC round trips take a quarter less time."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.get_loop().set_exception_handler(logs.log_loop_error)
        return runner.run(work)


async def _supervise(service: Service, *, exit_with_parent: bool) -> None:
    stop, loop = Stop(), asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, stop.ask)
    loop.add_signal_handler(signal.SIGINT, stop.end)
    if exit_with_parent:
        reader = asyncio.StreamReader()
        await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
        watch = asyncio.create_task(_read_to_the_end(reader))
        watch.add_done_callback(lambda _: stop.end())
    await service(stop)


async def _read_to_the_end(reader: asyncio.StreamReader) -> None:
    while await reader.read(4096):
        pass
