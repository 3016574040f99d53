"""What happened in a session, event by event: for the page's strip and for timelines.

Times are seconds since the session was opened, by the verifier's clock. Node ids are the session's own, from 1; parent
0 is a committed token.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class NodesArrived:
    """Nodes have come from a drafter; one that another drafter had proposed before has its id again."""

    at: float
    drafter_id: str
    node_ids: tuple[int, ...] = ()
    parent_ids: tuple[int, ...] = ()
    token_ids: tuple[int, ...] = ()
    positions: tuple[int, ...] = ()
    log_scores: tuple[float, ...] = ()
    idle_seconds: float = 0.0
    """Of the drafter, since its last message."""
    busy_seconds: float = 0.0
    grown_from: float = 0.0
    """When their growth began, by the drafter's own clock, and when they were sent; both 0: it does not say."""
    sent_at: float = 0.0


@dataclass(frozen=True)
class StepDecided:
    """A step has decided; the root had waited for it since ``rooted_at``.

    ``token_ids`` were emitted from ``position`` on: the accepted nodes' tokens, then the target's own.
    """

    rooted_at: float
    launched_at: float
    decided_at: float
    verified_ids: tuple[int, ...]
    accepted_ids: tuple[int, ...]
    token_ids: tuple[int, ...]
    position: int


@dataclass(frozen=True)
class SessionPlaced:
    """The session was opened on a verifier: what follows happened there, its times count from here."""

    verifier_id: str
    epoch: int
    opened_unix_seconds: float


@dataclass(frozen=True)
class PhaseEnded:
    """Something that is no step came to its end: ``queue``, ``tokenize`` or ``prefill``.

    ``role`` is gateway or verifier; times before the session was opened are negative; ``tokens`` are of the prompt, as
    far as the phase was about them.
    """

    name: str
    role: str
    started: float
    ended: float
    tokens: int = 0


DraftingEvent = NodesArrived | StepDecided | SessionPlaced | PhaseEnded
