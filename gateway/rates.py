"""What one caller has taken lately, against what it may take."""

from __future__ import annotations

from dataclasses import dataclass, field

from gateway.callers import Caller
from paceline.speculation.fields import require

MINUTE_SECONDS = 60.0


class Bucket:
    """An allowance that comes in steadily and is saved up for a minute at most."""

    def __init__(self, per_minute: int, now: float) -> None:
        self.per_minute = per_minute
        self._level, self._at = float(per_minute), now

    def seconds_until(self, amount: float, now: float) -> float:
        """When there is enough; 0: there is."""
        missing = amount - self._now(now)
        return max(0.0, missing * MINUTE_SECONDS / self.per_minute)

    def take(self, amount: float, now: float) -> None:
        """A negative amount gives back. More than there is may be taken: then it is missing for as long as it takes."""
        self._level = min(self._now(now) - amount, float(self.per_minute))
        self._at = now

    def _now(self, now: float) -> float:
        return min(self._level + (now - self._at) * self.per_minute / MINUTE_SECONDS, float(self.per_minute))


@dataclass
class Account:
    """One caller's buckets and the requests that it has waiting or running; no limit, no bucket."""

    caller: Caller
    opened_at: float
    active: int = 0
    requests: Bucket | None = field(init=False)
    tokens: Bucket | None = field(init=False)

    def __post_init__(self) -> None:
        limits = self.caller.limits
        self.requests = _bucket(limits.requests_per_minute, self.opened_at)
        self.tokens = _bucket(limits.tokens_per_minute, self.opened_at)

    def check_possible(self, tokens: int) -> None:
        """Refuses by name what no waiting would let through."""
        most = self.caller.limits.tokens_per_minute
        expected = f"prompt and max_tokens within the {most} tokens per minute of key {self.caller.name!r}"
        require(most is None or tokens <= most, "max_tokens", f"{tokens} tokens with the prompt", expected)

    @property
    def full(self) -> bool:
        """Whether it has as many requests at a time as it may have."""
        most = self.caller.limits.concurrent
        return most is not None and self.active >= most


def _bucket(per_minute: int | None, now: float) -> Bucket | None:
    return None if per_minute is None else Bucket(per_minute, now)
