"""What was refused because of who asked: counted always, logged once in a while."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping

from paceline.logs import get_logger

logger = get_logger(__name__)

QUIET_SECONDS = 60.0
"""For so long what one peer is refused for one reason is not logged again."""
MAX_REMEMBERED = 1024


class Refusals:
    """Counts by reason; may be used from any thread."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._counts: Counter[str] = Counter()
        self._logged: dict[tuple[str, str], float] = {}

    def note(self, reason: str, peer: str, detail: str) -> None:
        """``reason`` is one of a few words; ``detail`` must hold nothing secret."""
        host = peer.rpartition(":")[0] if peer.startswith(("ipv4:", "ipv6:")) else peer
        with self._lock:
            self._counts[reason] += 1
            now, key = self._clock(), (host, reason)
            if now - self._logged.get(key, -QUIET_SECONDS) < QUIET_SECONDS:
                return
            if len(self._logged) >= MAX_REMEMBERED:
                self._logged.clear()
            self._logged[key] = now
        logger.warning("refused", peer=peer, reason=reason, detail=detail)

    def by_reason(self) -> Mapping[str, int]:
        """How often so far."""
        with self._lock:
            return dict(self._counts)


REFUSALS = Refusals()
"""Those of this process."""
