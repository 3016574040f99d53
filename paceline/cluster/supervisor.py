"""Workers that end are started again, until it is plain that this does not help."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Sequence

from paceline.cluster.child import Worker
from paceline.errors import Unavailable

RESTARTS, WINDOW_SECONDS = 5, 60.0
"""Of one worker, at most, within so much time."""
PAUSE_SECONDS = 0.5
"""Before the first restart; twice as long before each further one of the window."""


class Supervisor:
    """Looks after the workers of a local cluster, whatever the status was that they ended with."""

    def __init__(
        self, workers: Sequence[Worker], say: Callable[[str], None], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._workers, self._say, self._clock = workers, say, clock
        self._ends: dict[str, deque[float]] = {worker.name: deque() for worker in workers}
        self._due: dict[str, float] = {}
        """When workers that have ended are to be started, by name."""

    def look(self) -> None:
        """Notes who has ended and starts who is due; raises ``Unavailable`` for one that has ended too often."""
        now = self._clock()
        for worker in self._workers:
            if worker.process.poll() is None:
                continue
            if worker.name not in self._due:
                self._due[worker.name] = now + self._pause(worker, now)
            elif now >= self._due[worker.name]:
                del self._due[worker.name]
                worker.end()
                worker.start()

    def _pause(self, worker: Worker, now: float) -> float:
        ends, status = self._ends[worker.name], worker.process.returncode
        while ends and now - ends[0] > WINDOW_SECONDS:
            ends.popleft()
        ends.append(now)
        said = f"{worker.name} ended with status {status}"
        if len(ends) > RESTARTS:
            raise Unavailable(f"{said}, after {RESTARTS} restarts within {WINDOW_SECONDS:.0f} s\n{worker.last_words()}")
        pause = PAUSE_SECONDS * 2 ** (len(ends) - 1)
        self._say(f"{said}; it is started again in {pause:.1f} s")
        return float(pause)
