"""What the services say to each other, as plain values. ``wire.py`` is their only way to and from the wire."""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass, field
from enum import Enum

from paceline.speculation.merge import NodeColumns
from paceline.speculation.policy import Mode, SpeculationParameters
from paceline.speculation.sampling import SamplingParameters

PROTOCOL_VERSION = 1


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
    """What one drafter did for one session, in nodes."""

    drafter_id: str
    proposed: int = 0
    verified: int = 0
    accepted: int = 0
    uniquely_accepted: int = 0
    stale: int = 0


@dataclass(frozen=True)
class OverlapStatistics:
    """How drafting and verifying went together in one session; names as in DESIGN §2 and PEARL."""

    steps: int = 0
    verified_nodes: int = 0
    accepted_nodes: int = 0
    pre_verify_steps: int = 0
    post_verify_nodes: int = 0
    verifier_wait_seconds: float = 0.0
    step_seconds: float = 0.0
    drafters: tuple[DrafterStatistics, ...] = ()

    @property
    def mean_accepted_length(self) -> float:
        """Tokens emitted per step, the next token included."""
        return (self.accepted_nodes + self.steps) / self.steps if self.steps else 0.0


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


@dataclass(frozen=True)
class CommittedTokens:
    position: int
    token_ids: tuple[int, ...]
    prefix_hash: int


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

    @property
    def last(self) -> bool:
        return self.finish_reason is not None or self.rejected is not None


@dataclass(frozen=True)
class Join:
    session_id: str
    epoch: int
    drafter_id: str
    incarnation: int
    key: bytes
    have_length: int
    prefix_hash: int


@dataclass(frozen=True)
class Leave:
    session_id: str


@dataclass(frozen=True)
class DraftNodes:
    session_id: str
    epoch: int
    columns: NodeColumns


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

    @classmethod
    def to(cls, opening: OpenSession, verifier: str, drafter_id: str) -> Attach:
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


@dataclass(frozen=True)
class ModelInfo:
    name: str
    vocabulary_size: int
    max_context: int
    tokenizer_hash: str
    stop_token_ids: tuple[int, ...]


@dataclass(frozen=True)
class Fingerprint:
    """The target as it is computed."""

    weights: str
    dtype: str
    engine: str
    device_kind: str
    tensor_parallel_size: int
    numerics: str


@dataclass(frozen=True)
class VerifierDescription:
    verifier_id: str
    model: ModelInfo
    fingerprint: Fingerprint
    max_sessions: int
    running_sessions: int
    waiting_sessions: int
    free_blocks: int
    total_blocks: int
    protocol_version: int = PROTOCOL_VERSION


@dataclass(frozen=True)
class DrafterDescription:
    drafter_id: str
    kind: str
    model: str
    vocabulary_size: int
    tokenizer_hash: str
    price_per_hour: float
    max_sessions: int
    attached_sessions: int
    max_context: int
    incarnation: int
    protocol_version: int = PROTOCOL_VERSION


@dataclass(frozen=True)
class TokenizerFiles:
    """What a gateway needs to speak text."""

    tokenizer_hash: str
    tokenizer_json: bytes
    chat_template: str
    special_tokens: dict[str, str]


@dataclass(frozen=True)
class ChatMessage:
    role: str
    content: str


@dataclass(frozen=True)
class Generate:
    """A client's request; exactly one of ``text``, ``chat`` and ``token_ids`` is set."""

    model: str = ""
    text: str | None = None
    chat: tuple[ChatMessage, ...] | None = None
    token_ids: tuple[int, ...] | None = None
    sampling: SamplingParameters = field(default_factory=SamplingParameters)
    speculation: SpeculationParameters = field(default_factory=SpeculationParameters)
    seed: int | None = None
    choice_index: int = 0
    priority: int = 0


@dataclass(frozen=True)
class Completion:
    """How a generation ended."""

    finish_reason: FinishReason
    usage: Usage
    overlap: OverlapStatistics
    mode: Mode
    exactness: str
    ttft_seconds: float
    tpot_seconds: float


@dataclass(frozen=True)
class Chunk:
    """Part of an answer: ``seed`` comes with the first, ``completion`` with the last."""

    session_id: str
    text: str = ""
    token_ids: tuple[int, ...] = ()
    position: int = 0
    seed: int | None = None
    completion: Completion | None = None


@dataclass(frozen=True)
class Worker:
    worker_id: str
    role: str
    kind: str
    address: str
    healthy: bool
    model: str
    price_per_hour: float
    sessions: int
    max_sessions: int


def drafter_key(session_secret: bytes, session_id: str, drafter_id: str, epoch: int) -> bytes:
    """What a drafter shows a verifier to prove that the session's gateway sent it."""
    return hmac.new(session_secret, f"{session_id}|{drafter_id}|{epoch}".encode(), hashlib.sha256).digest()
