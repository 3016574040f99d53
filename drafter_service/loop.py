"""The growing loop: one thread that owns the drafter's device."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

from drafter_service.service import Drafter

logger = logging.getLogger(__name__)


class GrowLoop:
    """Grows for as long as there is something to grow, and sleeps until there is news."""

    def __init__(self, drafter: Drafter, on_failure: Callable[[BaseException], None]) -> None:
        self._drafter, self._on_failure = drafter, on_failure
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="grow-loop", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Ends the loop after the growth in progress."""
        with self._drafter.changed:
            self._stopping = True
            self._drafter.changed.notify()
        self._thread.join()

    def _run(self) -> None:
        try:
            while not self._stopping:
                if not self._drafter.grow():
                    self._sleep()
        except BaseException as error:  # a dead loop must take the service down, not hang it
            logger.exception("the growing loop failed")
            self._on_failure(error)

    def _sleep(self) -> None:
        with self._drafter.changed:
            self._drafter.changed.wait_for(lambda: self._stopping or not self._drafter.idle())
