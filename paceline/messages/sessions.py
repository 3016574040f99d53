"""Between a gateway and a verifier: sessions, what becomes of them, and what they have cost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from enum import Enum
from itertools import zip_longest
from typing import NamedTuple

from paceline.messages.events import DraftingEvent
from paceline.speculation.logprobs import TokenLogprobs
from paceline.speculation.policy import Mode, SpeculationParameters
from paceline.speculation.sampling import SamplingParameters


class FinishReason(Enum):
    STOP = "stop"
    LENGTH = "length"
    ABORT = "abort"
    ERROR = "error"


class Status(Enum):
    """The gRPC status codes that per-entry refusals use, by their wire value."""

    INVALID_ARGUMENT = 3
    NOT_FOUND = 5
    PERMISSION_DENIED = 7
    RESOURCE_EXHAUSTED = 8
    FAILED_PRECONDITION = 9
    ABORTED = 10
    INTERNAL = 13
    UNAVAILABLE = 14
    DATA_LOSS = 15


@dataclass(frozen=True)
class Usage:
    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int = 0


@dataclass(frozen=True)
class DrafterStatistics:
    """What one drafter did for one session, in nodes, and what that took."""

    drafter_id: str
    proposed: int = 0
    verified: int = 0
    accepted: int = 0
    uniquely_accepted: int = 0
    stale: int = 0
    """Came too late: beside what was committed already."""
    drafting: bool = True
    """False once doing without it was found to be faster, beyond doubt."""
    steps: int = 0
    """Launched while it was to draft."""
    busy_seconds: float = 0.0
    """Computing time of its growths, as it says."""
    rejected: int = 0
    """Entries, not nodes: those that were malformed."""


@dataclass(frozen=True)
class OverlapStatistics:
    """How drafting and verifying went together in one session; names as in DESIGN §2 and PEARL."""

    steps: int = 0
    verified_nodes: int = 0
    accepted_nodes: int = 0
    pre_verify_steps: int = 0
    post_verify_nodes: int = 0
    verifier_wait_seconds: float = 0.0
    drafter_idle_seconds: float = 0.0
    step_seconds: float = 0.0
    drafters: tuple[DrafterStatistics, ...] = ()
    acceptance_histogram: tuple[int, ...] = ()
    """Steps that accepted 0, 1, 2, … nodes."""

    def plus(self, other: OverlapStatistics) -> OverlapStatistics:
        """Of two parts of a session, on verifiers one after the other."""
        sums = {
            field.name: getattr(self, field.name) + getattr(other, field.name)
            for field in fields(self)
            if field.name not in ("drafters", "acceptance_histogram")
        }
        histograms = zip_longest(self.acceptance_histogram, other.acceptance_histogram, fillvalue=0)
        return OverlapStatistics(
            **sums,
            drafters=_added(self.drafters, other.drafters),
            acceptance_histogram=tuple(map(sum, histograms)),
        )

    @property
    def mean_accepted_length(self) -> float:
        """Tokens emitted per step, the next token included."""
        return (self.accepted_nodes + self.steps) / self.steps if self.steps else 0.0


def _added(before: Sequence[DrafterStatistics], after: Sequence[DrafterStatistics]) -> tuple[DrafterStatistics, ...]:
    """By drafter; whether it drafts is what was heard last."""
    known = {drafter.drafter_id: drafter for drafter in before}
    for drafter in after:
        old = known.get(drafter.drafter_id)
        counts = [f.name for f in fields(drafter) if f.name not in ("drafter_id", "drafting")]
        added = {name: getattr(drafter, name) + (getattr(old, name) if old else 0) for name in counts}
        known[drafter.drafter_id] = replace(drafter, **added)
    return tuple(known[name] for name in sorted(known))


@dataclass(frozen=True)
class OpenSession:
    """Start a session. ``token_ids`` are the prompt and, after a failover, the tokens already committed."""

    session_id: str
    epoch: int
    token_ids: tuple[int, ...]
    prompt_length: int
    sampling: SamplingParameters
    speculation: SpeculationParameters
    noise_key: int
    session_secret: bytes
    priority: int = 0
    model: str = ""
    traceparent: str = ""
    """W3C trace context of the request that this belongs to; empty: it has none."""

    @property
    def watched(self) -> bool:
        """Whether anybody wants to know what happens in the session, event by event."""
        return self.speculation.events or is_sampled(self.traceparent)


def is_sampled(traceparent: str) -> bool:
    """Whether the request's trace is kept: the flags of a W3C trace context say so."""
    flags = traceparent.rpartition("-")[2]
    return len(flags) == 2 and flags[1] in "13579bdf"


@dataclass(frozen=True)
class AbortSession:
    session_id: str
    epoch: int


@dataclass(frozen=True)
class AuthorizeDrafter:
    session_id: str
    drafter_id: str


@dataclass(frozen=True)
class RevokeDrafter:
    session_id: str
    drafter_id: str
    reason: str


@dataclass(frozen=True)
class ChangeSession:
    """None leaves a setting as it is."""

    session_id: str
    mode: Mode | None = None
    max_draft_nodes: int | None = None
    priority: int | None = None


DecodeCommand = OpenSession | AbortSession | AuthorizeDrafter | RevokeDrafter | ChangeSession


class StepCounts(NamedTuple):
    """What one step was for one session."""

    tokens: int
    """That it emitted: the accepted ones and the target's next one."""
    nodes: int = 0
    """That it verified."""


@dataclass(frozen=True)
class CommittedTokens:
    """``logprobs`` and ``drafters``, who had proposed each token, are there for every token or for none."""

    position: int
    token_ids: tuple[int, ...]
    prefix_hash: int
    logprobs: tuple[TokenLogprobs, ...] = ()
    drafters: tuple[tuple[str, ...], ...] = ()
    steps: tuple[StepCounts, ...] = ()
    """That they are of, in order; none said: it was one, and what it verified is not known."""

    @property
    def counted(self) -> tuple[StepCounts, ...]:
        """The steps, said or not."""
        return self.steps or (StepCounts(len(self.token_ids)),)


@dataclass(frozen=True)
class Rejection:
    """One entry was refused; nothing else is affected. ``epoch`` 0: whichever the session has."""

    session_id: str
    status: Status
    detail: str
    epoch: int = 0


@dataclass(frozen=True)
class SessionEvent:
    """News of one session for its gateway. The last one has a finish reason or a rejection."""

    session_id: str
    epoch: int
    opened: bool = False
    committed: CommittedTokens | None = None
    rejected: Rejection | None = None
    finish_reason: FinishReason | None = None
    usage: Usage | None = None
    overlap: OverlapStatistics | None = None
    detail: str = ""
    events: tuple[DraftingEvent, ...] = ()

    @property
    def last(self) -> bool:
        return self.finish_reason is not None or self.rejected is not None
