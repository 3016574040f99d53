"""What a drafter has done since it started, in plain numbers that only grow; ``meters.py`` tells them."""

from __future__ import annotations

from dataclasses import dataclass, field

from paceline.telemetry.measuring import Latest


@dataclass
class LinkCounts:
    """What it has done for the sessions of one verifier."""

    entries: int = 0
    """Of messages: new nodes of one session."""
    nodes: int = 0
    rounds: int = 0
    """Of lockstep."""
    busy_seconds: float = 0.0
    """Of their share of the growths."""
    idle_seconds: float = 0.0
    """In which there was nothing to grow for a session, added up."""


@dataclass
class Counts:
    """Of one drafter; written by its growing thread."""

    growths: int = 0
    grown_sessions: int = 0
    """Sessions that were part of them, each time."""
    busy_seconds: float = 0.0
    links: Latest[LinkCounts] = field(default_factory=lambda: Latest(LinkCounts))
    """By the verifier's address; proposals, which have none, under an empty name."""
