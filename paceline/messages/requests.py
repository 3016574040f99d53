"""Between a client and the gateway."""

from __future__ import annotations

from dataclasses import dataclass, field

from paceline.messages.sessions import FinishReason, OverlapStatistics, Usage
from paceline.speculation.policy import Mode, SpeculationParameters
from paceline.speculation.sampling import SamplingParameters


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
