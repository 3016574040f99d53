"""Drafters that send malformed entries again and again are kept out for a while, longer each time."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from paceline.logs import get_logger

logger = get_logger(__name__)

OFFENCES, WITHIN_SECONDS = 8, 10.0
"""So many malformed entries in so short a time are no accident."""
SHORTEST_SECONDS, LONGEST_SECONDS = 5.0, 300.0
"""The first term, and the bound of those that follow, each twice as long as the one before."""
_REMEMBERED = 1024
"""Drafters, at most."""


@dataclass
class _Suspect:
    """A drafter that has sent something malformed lately."""

    offences: deque[float] = field(default_factory=lambda: deque(maxlen=OFFENCES))
    next_term_seconds: float = SHORTEST_SECONDS
    until: float = 0.0
    reason: str = ""


class Quarantine:
    """Who is kept out of all sessions. Names are those that drafters have proved by the keys of their joins."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self.terms = 0
        """Given so far."""
        self._suspects: dict[str, _Suspect] = {}
        """Those heard of last come last."""

    def offence(self, drafter_id: str, detail: str) -> bool:
        """Notes a malformed entry; whether its drafter is to be shown out of all its sessions now."""
        now = self._clock()
        suspect = self._suspect(drafter_id, now)
        suspect.offences.append(now)
        full = len(suspect.offences) == OFFENCES
        if now < suspect.until or not full or now - suspect.offences[0] > WITHIN_SECONDS:
            return False
        seconds, self.terms = suspect.next_term_seconds, self.terms + 1
        suspect.until, suspect.reason = now + seconds, detail
        suspect.next_term_seconds = min(2 * seconds, LONGEST_SECONDS)
        suspect.offences.clear()
        logger.warning("a drafter is quarantined", drafter=drafter_id, seconds=seconds, detail=detail)
        return True

    @property
    def kept_out(self) -> list[str]:
        """Those who are, now."""
        now = self._clock()
        return [drafter_id for drafter_id, suspect in list(self._suspects.items()) if now < suspect.until]

    def refusal(self, drafter_id: str) -> str:
        """Why a drafter is kept out, and how long still; empty if it is not."""
        suspect = self._suspects.get(drafter_id)
        left = 0.0 if suspect is None else suspect.until - self._clock()
        return "" if suspect is None or left <= 0 else f"quarantined for {left:.1f} s: {suspect.reason}"

    def _suspect(self, drafter_id: str, now: float) -> _Suspect:
        """What is known of it. Good conduct for as long as the longest term makes up for everything."""
        suspect = self._suspects.pop(drafter_id, None)
        if suspect is None or now - max((suspect.until, *suspect.offences)) >= LONGEST_SECONDS:
            suspect = _Suspect()
        while len(self._suspects) >= _REMEMBERED:
            del self._suspects[next(iter(self._suspects))]
        self._suspects[drafter_id] = suspect
        return suspect
