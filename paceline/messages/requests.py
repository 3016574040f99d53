"""Between a client and the gateway."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field

from paceline.messages.events import DraftingEvent
from paceline.messages.sessions import FinishReason, OverlapStatistics, Usage
from paceline.speculation.fields import require
from paceline.speculation.logprobs import TokenLogprobs
from paceline.speculation.policy import Mode, SpeculationParameters
from paceline.speculation.sampling import SamplingParameters

MAX_STOPS, MAX_STOP_CHARACTERS = 16, 1024
MAX_IDEMPOTENCY_KEY = 256
LEAST_PRIORITY = -(1 << 31)
"""And one less upwards: what a message has room for."""


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
    stop: tuple[str, ...] = ()
    """Strings that end the text and are not part of it."""
    idempotency_key: str = ""
    """A second request with the same one takes the session over from its beginning; empty: there is none."""

    def __post_init__(self) -> None:
        characters = len(self.idempotency_key)
        fits = characters <= MAX_IDEMPOTENCY_KEY
        require(fits, "idempotency_key", f"{characters} characters", f"at most {MAX_IDEMPOTENCY_KEY}")
        least, most = LEAST_PRIORITY, -LEAST_PRIORITY - 1
        require(least <= self.priority <= most, "priority", self.priority, f"{least} to {most}")
        require(len(self.stop) <= MAX_STOPS, "stop", f"{len(self.stop)} strings", f"at most {MAX_STOPS}")
        for stop in self.stop:
            fits = 0 < len(stop) <= MAX_STOP_CHARACTERS
            require(fits, "stop", f"{len(stop)} characters", f"1 to {MAX_STOP_CHARACTERS} characters each")


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
    stop_reason: str = ""
    """The stop string that ended the text, if one did."""
    trace_id: str = ""
    """Names the answer's trace and timeline; empty: it was not watched."""
    warning: str = ""
    """What was promised and could not be kept, if anything: that the text could have been resumed."""


@dataclass(frozen=True)
class Chunk:
    """Part of an answer: ``seed`` comes with the first, ``completion`` with the last.

    ``piece_lengths`` say how many characters of ``text`` each token has completed; ``logprobs``, ``drafters`` (who had
    proposed each token) and ``events`` are there if asked for.
    """

    session_id: str
    text: str = ""
    token_ids: tuple[int, ...] = ()
    position: int = 0
    seed: int | None = None
    completion: Completion | None = None
    piece_lengths: tuple[int, ...] = ()
    logprobs: tuple[TokenLogprobs, ...] = ()
    drafters: tuple[tuple[str, ...], ...] = ()
    events: tuple[DraftingEvent, ...] = ()
    resume_token: str = ""
    """Continues the answer at any gateway after the tokens told so far; empty: it cannot be resumed."""

    @property
    def pieces(self) -> tuple[str, ...]:
        """The text by token."""
        ends = list(itertools.accumulate(self.piece_lengths, initial=0))
        return tuple(self.text[start:end] for start, end in itertools.pairwise(ends))
