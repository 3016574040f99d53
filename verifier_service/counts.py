"""What a verifier has done since it started, in plain numbers that only grow; ``meters.py`` tells them.

What sessions have done stands in their records; it is added up when they end, and of those that still run when
somebody asks. So a step pays for nothing but what its records keep anyway.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from copy import deepcopy
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING

from paceline.speculation.merge import DraftSource
from paceline.telemetry.measuring import Latest
from verifier_service.record import Totals

if TYPE_CHECKING:
    from verifier_service.session import Session


@dataclass
class DrafterCounts:
    """Of one drafter, over all sessions."""

    proposed: int = 0
    verified: int = 0
    accepted: int = 0
    uniquely_accepted: int = 0
    stale: int = 0
    rejected: int = 0
    steps: int = 0
    busy_seconds: float = 0.0
    tested: int = 0
    promised: float = 0.0

    def add(self, source: DraftSource) -> None:
        for name in _OF_DRAFTERS:
            setattr(self, name, getattr(self, name) + getattr(source, name))


_OF_DRAFTERS = tuple(field.name for field in fields(DrafterCounts))
_OF_SESSIONS = tuple(field.name for field in fields(Totals) if field.name != "acceptance_histogram")


@dataclass
class Counts:
    """Of one verifier; kept with its lock."""

    steps: int = 0
    """Forwards."""
    rows: int = 0
    prompt_rows: int = 0
    """Of these: tokens of prompts, and of texts that are computed again."""
    offered_nodes: int = 0
    """That a step could have verified, as far as its rows go at all."""
    paying_nodes: int = 0
    """Of these: those that paid, by what rows cost."""
    preemptions: int = 0
    prompt_tokens: int = 0
    """Of sessions that were admitted."""
    cached_tokens: int = 0
    ended: Counter[str] = field(default_factory=Counter)
    """Sessions, by why."""
    sessions: Totals = field(default_factory=Totals)
    drafters: Latest[DrafterCounts] = field(default_factory=lambda: Latest(DrafterCounts))

    def add(self, session: Session) -> None:
        """What a session has come to, once it is over."""
        if session.stay.cached_tokens is not None:
            self.prompt_tokens += session.opening.prompt_length
            self.cached_tokens += session.stay.cached_tokens
        totals, sums = session.record.totals, self.sessions
        for name in _OF_SESSIONS:
            setattr(sums, name, getattr(sums, name) + getattr(totals, name))
        sums.count(totals.acceptance_histogram)
        for drafter_id, source in session.record.sources.items():
            self.drafters.of(drafter_id).add(source)

    def over(self, session: Session) -> None:
        """It has left the table."""
        self.add(session)
        self.ended[session.ended.value if session.ended else "abort"] += 1

    def so_far(self, sessions: Iterable[Session]) -> Counts:
        """These, and what the sessions that still run have come to."""
        counts = deepcopy(self)
        for session in sessions:
            counts.add(session)
        return counts


@dataclass(frozen=True)
class Figures:
    """What a verifier has counted, and how it is now."""

    counts: Counts
    running: int
    waiting: int
    free_blocks: int
    blocks: int
    calibration_errors: dict[str, float]
    quarantined: int
    """Drafters that are kept out."""
    quarantines: int
    """Terms that were given so far."""
