"""What fails, in which order: the same for a seed."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass

WORKERS = {
    "drafter": ("small", "lookup", "suffix"),
    "verifier": ("big-0", "big-1"),
    "gateway": ("gateway-0", "gateway-1"),
}
"""Those of the fleet that suffers, by kind."""
STOPPED_SECONDS = 4.0
"""A worker that is stopped goes on after so long."""


@dataclass(frozen=True)
class Fault:
    """``kill`` (SIGKILL), ``stop`` (SIGSTOP, later SIGCONT) or ``restart`` (SIGTERM, then a new process), of a drafter,
    verifier, gateway or redis."""

    action: str
    kind: str
    turn: int
    """Which of the workers of this kind: they take turns."""

    @property
    def name(self) -> str:
        return f"{self.action} {self.kind}"


def schedule(kills: Mapping[str, int], redis_stops: int, chance: random.Random, *, restarts: bool) -> list[Fault]:
    """All kills, one stop of each kind of worker, and the stops of Redis, shuffled; then, if wanted, a rolling
    restart: every service once, in order."""
    faults = [Fault("kill", kind, turn) for kind, count in kills.items() for turn in range(count)]
    faults += [Fault("stop", kind, turn=chance.randrange(2)) for kind, count in kills.items() if count]
    faults += [Fault("kill", "redis", turn) for turn in range(redis_stops)]
    chance.shuffle(faults)
    services = [(kind, turn) for kind, names in WORKERS.items() for turn in range(len(names))] if restarts else []
    return faults + [Fault("restart", kind, turn) for kind, turn in services]
