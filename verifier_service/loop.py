"""The step loop: one thread that owns the device."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

from verifier_service.service import Verifier

logger = logging.getLogger(__name__)


class StepLoop:
    """Runs steps for as long as there is something to do, and sleeps when there is not."""

    def __init__(self, verifier: Verifier, on_failure: Callable[[BaseException], None]) -> None:
        self._verifier, self._on_failure = verifier, on_failure
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="step-loop", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Ends the loop after the step in flight."""
        with self._verifier.changed:
            self._stopping = True
            self._verifier.changed.notify()
        self._thread.join()

    def _run(self) -> None:
        try:
            while not self._stopping:
                if not self._verifier.step():
                    self._sleep()
        except BaseException as error:  # a dead loop must take the service down, not hang it
            logger.exception("the step loop failed")
            self._on_failure(error)

    def _sleep(self) -> None:
        changed = self._verifier.changed
        with changed:
            if not self._stopping:
                changed.wait(self._verifier.wait_seconds())
