"""Between a drafter, its verifier and the gateway that attaches it."""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass

from paceline.messages.sessions import OpenSession, Rejection, is_sampled
from paceline.speculation.accept import NodeCandidates
from paceline.speculation.merge import NodeColumns
from paceline.speculation.policy import Mode, SpeculationParameters
from paceline.speculation.sampling import SamplingParameters


@dataclass(frozen=True)
class Join:
    session_id: str
    epoch: int
    drafter_id: str
    incarnation: int
    key: bytes
    have_length: int
    prefix_hash: int
    wants_candidates: bool = False
    """Whether verdicts shall name the target's best tokens."""


@dataclass(frozen=True)
class Leave:
    session_id: str


@dataclass(frozen=True)
class Growth:
    """Where nodes come from: the growths since the last message, in seconds since 1970 by the drafter's clock."""

    started: float
    sent: float
    span_id: int = 0
    """Of the span that is about them, in the session's trace; 0: there is none."""


@dataclass(frozen=True)
class DraftNodes:
    """New nodes of a session, and how its drafter spent the time since the last message.

    ``idle_seconds``: there was nothing to grow for it; ``busy_seconds``: its share of the growths it was part of.
    """

    session_id: str
    epoch: int
    columns: NodeColumns
    idle_seconds: float = 0.0
    busy_seconds: float = 0.0
    growth: Growth | None = None
    """Of sessions that are watched."""


@dataclass(frozen=True)
class RoundComplete:
    session_id: str
    epoch: int
    root_position: int


@dataclass(frozen=True)
class DraftUpdate:
    """Everything that a drafter has to say at once, over all its sessions."""

    joins: tuple[Join, ...] = ()
    nodes: tuple[DraftNodes, ...] = ()
    rounds: tuple[RoundComplete, ...] = ()
    leaves: tuple[Leave, ...] = ()


@dataclass(frozen=True)
class Joined:
    """The join is accepted; ``token_ids`` follow ``position`` tokens that both sides hold."""

    session_id: str
    epoch: int
    position: int
    token_ids: tuple[int, ...]
    node_limit: int


@dataclass(frozen=True)
class Verdict:
    """What a step decided: the accepted path, then the next token, from ``position`` on."""

    session_id: str
    epoch: int
    position: int
    token_ids: tuple[int, ...]
    prefix_hash: int
    ended: bool
    node_limit: int
    mode: Mode | None = None
    candidates: tuple[tuple[int, ...], ...] = ()
    """On request: the target's best tokens at the last so many of the text's positions, best first."""
    beside: tuple[NodeCandidates, ...] = ()
    """On request: the same of verified nodes beside the text, the least likely first."""


@dataclass(frozen=True)
class Verdicts:
    """Everything that a verifier has to say to one drafter at once."""

    joined: tuple[Joined, ...] = ()
    verdicts: tuple[Verdict, ...] = ()
    rejected: tuple[Rejection, ...] = ()


@dataclass(frozen=True)
class Attach:
    """Ask a drafter to draft for a session."""

    session_id: str
    epoch: int
    verifier: str
    token_ids: tuple[int, ...]
    prompt_length: int
    sampling: SamplingParameters
    speculation: SpeculationParameters
    noise_key: int
    key: bytes
    prediction: tuple[int, ...] = ()
    """The client's guess at the text, in tokens."""
    model: str = ""
    """Name of the target: what is learned of one target holds for no other."""
    traceparent: str = ""
    """W3C trace context of the request that the session belongs to; empty: it has none."""

    @property
    def watched(self) -> bool:
        """Whether anybody wants to know what happens in the session, event by event."""
        return self.speculation.events or is_sampled(self.traceparent)

    @classmethod
    def to(cls, opening: OpenSession, verifier: str, drafter_id: str, prediction: tuple[int, ...] = ()) -> Attach:
        """To a session that is opened on the verifier at this address."""
        return cls(
            session_id=opening.session_id,
            epoch=opening.epoch,
            verifier=verifier,
            token_ids=opening.token_ids,
            prompt_length=opening.prompt_length,
            sampling=opening.sampling,
            speculation=opening.speculation,
            noise_key=opening.noise_key,
            key=drafter_key(opening.session_secret, opening.session_id, drafter_id, opening.epoch),
            prediction=prediction,
            model=opening.model,
            traceparent=opening.traceparent,
        )


@dataclass(frozen=True)
class Detached:
    reason: str


@dataclass(frozen=True)
class Attached:
    node_limit: int


AttachEvent = Attached | Detached


@dataclass(frozen=True)
class Propose:
    """Ask a drafter for candidates without a verifier."""

    token_ids: tuple[int, ...]
    sampling: SamplingParameters
    speculation: SpeculationParameters
    noise_key: int


def drafter_key(session_secret: bytes, session_id: str, drafter_id: str, epoch: int) -> bytes:
    """What a drafter shows a verifier to prove that the session's gateway sent it."""
    return hmac.new(session_secret, f"{session_id}|{drafter_id}|{epoch}".encode(), hashlib.sha256).digest()
