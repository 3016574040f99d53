"""A session's stay at a verifier: waiting for a place, having its text computed, losing the place again."""

from __future__ import annotations

from dataclasses import dataclass

from verifier_service.record import Phase, Record


@dataclass
class Stay:
    """Tells ``record`` of its phases as they end."""

    record: Record
    waiting_since: float
    """For a place among the running, the first one or another."""
    cached_tokens: int | None = None
    """Prompt tokens that were in the cache when it was first admitted; None before."""
    preemptions: int = 0
    _admitted_at: float = 0.0
    _to_compute: int = 0
    """Tokens whose K/V was not in the cache when it was admitted."""

    def admitted(self, now: float, cached_tokens: int, to_compute: int) -> bool:
        """It has a place; whether for the first time, not after a preemption."""
        first = self.cached_tokens is None
        if first:
            self.cached_tokens = cached_tokens
        self.record.add(Phase("queue", self.waiting_since, now))
        self._admitted_at, self._to_compute = now, to_compute
        return first

    def computed(self, now: float) -> None:
        """All of its text is in the cache, the root at most left."""
        if self._to_compute:
            self.record.add(Phase("prefill", self._admitted_at, now, self._to_compute))

    def preempted(self, now: float) -> None:
        """Its place was taken from it."""
        self.preemptions += 1
        self.waiting_since = now
