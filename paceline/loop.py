"""The loop of a device: one thread that owns it, works while there is work, and sleeps until there is news."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Protocol

from paceline.logs import get_logger

logger = get_logger(__name__)

PATIENCE_SECONDS = 5.0
"""How long the end of a piece of work is waited for when the loop is to stop."""


class Worker(Protocol):
    """What is worked at. ``changed`` is notified, with its lock held, whenever there may be something new to do."""

    changed: threading.Condition

    def work(self) -> bool:
        """Does one piece of work; whether there was any."""
        ...

    def wait_seconds(self) -> float | None:
        """How long to sleep unless ``changed`` is notified; None: until it is. Called with the lock held."""


class DeviceLoop:
    """Runs a worker in a thread of its own until it is stopped or fails; a failure must take the service down."""

    def __init__(self, name: str, worker: Worker, on_failure: Callable[[BaseException], None]) -> None:
        self._worker, self._on_failure = worker, on_failure
        self._stopping = False
        self._turned_at: float | None = None
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        self._thread.start()

    @property
    def stalled_seconds(self) -> float:
        """How long the piece of work in progress has taken; 0 while the loop sleeps for want of work."""
        turned_at = self._turned_at
        return 0.0 if turned_at is None else time.monotonic() - turned_at

    def stop(self) -> None:
        """Ends the loop after the work in progress, for which it does not wait for ever: it may be what hangs."""
        self._stopping = True
        if self._worker.changed.acquire(timeout=PATIENCE_SECONDS):
            self._worker.changed.notify()
            self._worker.changed.release()
        self._thread.join(PATIENCE_SECONDS)
        if self._thread.is_alive():
            logger.warning("a loop hangs and is left behind", thread=self._thread.name)

    def _run(self) -> None:
        try:
            while not self._stopping:
                self._turned_at = time.monotonic()
                if not self._worker.work():
                    self._turned_at = None
                    self._sleep()
        except BaseException as error:  # a dead loop that nobody hears of would hang every session
            logger.exception("a loop has failed", thread=self._thread.name)
            self._on_failure(error)

    def _sleep(self) -> None:
        with self._worker.changed:
            if not self._stopping:
                self._worker.changed.wait(self._worker.wait_seconds())
