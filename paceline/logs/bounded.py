"""A bound on lines that say the same again and again."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Hashable

MOST, WITHIN_SECONDS = 30, 60.0
"""Lines about the same thing, at most, in so much time."""
MAX_REMEMBERED = 1024


class Bounded:
    """Which of them are written; may be used from any thread."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock, self._lock = clock, threading.Lock()
        self._known: dict[Hashable, tuple[float, int]] = {}
        """Since when, and how many have come since."""

    def admit(self, about: Hashable) -> int | None:
        """How many about the same thing were left out before this line; None: this one is left out, too."""
        with self._lock:
            now = self._clock()
            since, count = self._known.get(about, (now, 0))
            left_out = 0
            if now - since >= WITHIN_SECONDS:
                since, count, left_out = now, 0, max(0, count - MOST)
            if len(self._known) >= MAX_REMEMBERED and about not in self._known:
                self._known.clear()
            self._known[about] = since, count + 1
            return left_out if count < MOST else None
