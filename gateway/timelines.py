"""What happened when in the latest answers that somebody watches, kept in memory for their callers."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import orjson

from gateway.http.speculation import event_body
from gateway.http.vocabulary import Vocabulary
from gateway.text import TextCodec
from paceline.errors import FailedPrecondition, UnknownTimeline
from paceline.messages import (
    Completion,
    DraftingEvent,
    JournaledSession,
    PhaseEnded,
    SessionEvent,
    SessionPlaced,
)
from paceline.messages.sessions import FinishReason
from paceline.telemetry import trace_id_of

MAX_ANSWERS = 256
MAX_BYTES = 32 << 20
"""Of all events together, as JSON; one node takes about 30."""
MAX_BYTES_EACH = 4 << 20
"""Of one answer's; what comes after them is not kept."""
MAX_BYTES_TOLD = 8 << 20
"""Of one trace's answers; the oldest are left out where they are more."""
TOKEN_BYTES = 64
"""What it takes to remember a token's id."""


@dataclass(frozen=True)
class Lap:
    """One of the gateway's own phases; times are monotonic."""

    name: str
    started: float
    ended: float
    tokens: int


class Laps:
    """A request's way through the gateway until a verifier is asked: one phase after the other."""

    def __init__(self) -> None:
        """It came just now."""
        self.started, self.started_unix = time.monotonic(), time.time()
        self.laps: list[Lap] = []

    def lap(self, name: str, tokens: int = 0) -> None:
        """What began when the one before ended, or when the request came, is over."""
        before = self.laps[-1].ended if self.laps else self.started
        self.laps.append(Lap(name, before, time.monotonic(), tokens))

    def unix(self, at: float) -> float:
        """A monotonic time in seconds since 1970."""
        return self.started_unix + at - self.started


@dataclass(eq=False)
class Notes:
    """One answer's timeline while it is written."""

    session: JournaledSession
    codec: TextCodec
    laps: Laps
    on_growth: Callable[[int], None]
    """Hears of bytes that are kept."""
    size: int = 0
    cut: bool = False
    """There was more than is kept."""
    evicted: bool = False
    _events: list[bytes] = field(default_factory=list)
    _tokens: set[int] = field(default_factory=set)
    """All that occur."""
    _finish: dict[str, Any] | None = None
    _asked_unix: float = 0.0
    _placed: bool = False

    @property
    def trace_id(self) -> str:
        return trace_id_of(self.session.opening.traceparent)

    def asks(self) -> None:
        """A verifier is being asked to take the session on."""
        self._asked_unix = time.time()

    def hear(self, event: SessionEvent) -> SessionEvent:
        """Takes the drafting events down. They stay with the news if the client has asked for them."""
        if not event.events:
            return event
        events = tuple(item for told in event.events for item in self._in_our_time(told))
        for item in events:
            self._keep(item)
        return replace(event, events=events if self.session.opening.speculation.events else ())

    def finish(self, completion: Completion) -> None:
        """The text has come to its end."""
        self._finish = {
            "reason": completion.finish_reason.value,
            "tokens": completion.usage.completion_tokens,
            "ttft": round(completion.ttft_seconds, 6),
            "tpot": round(completion.tpot_seconds, 6),
            **self._ended(),
        }

    def close(self, *, failed: bool) -> None:
        """Nothing more comes, whether the text has come to its end or not."""
        if self._finish is None:
            reason = FinishReason.ERROR if failed else FinishReason.ABORT
            self._finish = {"reason": reason.value, **self._ended()}

    def evict(self) -> None:
        """Forgets what there is, and keeps nothing more."""
        self.evicted, self.size = True, 0
        self._events.clear()
        self._tokens.clear()

    def body(self) -> dict[str, Any]:
        """As docs/observability.md describes it; takes milliseconds for a long answer."""
        opening = self.session.opening
        return {
            "session": opening.session_id,
            "model": opening.model,
            "mode": opening.speculation.mode.value,
            "seed": self.session.seed,
            "prompt_tokens": opening.prompt_length,
            "started": round(self.laps.started_unix, 6),
            "events": orjson.Fragment(b"[" + b",".join(tuple(self._events)) + b"]"),
            "texts": self._texts(),
            "finish": self._finish,
            "cut": self.cut,
        }

    def _in_our_time(self, event: DraftingEvent) -> Sequence[DraftingEvent]:
        """A verifier that is off by the clock cannot have opened the session before it was asked, or after we heard
        of it. Our own phases come with the first that did."""
        if not isinstance(event, SessionPlaced):
            return (event,)
        opened = min(max(event.opened_unix_seconds, self._asked_unix), time.time())
        laps = () if self._placed else self.laps.laps
        self._placed = True
        unix = self.laps.unix
        phases = (
            PhaseEnded(lap.name, "gateway", unix(lap.started) - opened, unix(lap.ended) - opened, lap.tokens)
            for lap in laps
        )
        return replace(event, opened_unix_seconds=opened), *phases

    def _keep(self, event: DraftingEvent) -> None:
        if self.evicted or self.cut:
            return
        written = orjson.dumps(event_body(event))
        if self.size + len(written) > MAX_BYTES_EACH:
            self.cut = True
            return
        before = len(self._tokens)
        self._tokens.update(getattr(event, "token_ids", ()))
        grown = len(written) + TOKEN_BYTES * (len(self._tokens) - before)
        self._events.append(written)
        self.size += grown
        self.on_growth(grown)

    def _ended(self) -> dict[str, float]:
        return {"ended": round(time.monotonic() - self.laps.started, 6)}

    def _texts(self) -> dict[str, str]:
        """What each token that occurs reads; nothing if the target has no tokenizer."""
        vocabulary = Vocabulary(self.codec)
        try:
            return {str(token_id): vocabulary.text(token_id) for token_id in sorted(self._tokens)}
        except FailedPrecondition:
            return {}


class Timelines:
    """The latest ones; the oldest go first where there are too many, or they have grown too large together."""

    def __init__(self, most_answers: int = MAX_ANSWERS, most_bytes: int = MAX_BYTES) -> None:
        self._most_answers, self._most_bytes = most_answers, most_bytes
        self._kept: deque[Notes] = deque()
        self._one_at_a_time = asyncio.Lock()
        self.size = 0
        """Bytes of events."""

    def begin(self, session: JournaledSession, codec: TextCodec, laps: Laps) -> Notes | None:
        """For an answer that begins; None if nobody watches it."""
        if not session.opening.watched:
            return None
        notes = Notes(session, codec, laps, self._grown)
        self._kept.append(notes)
        if len(self._kept) > self._most_answers:
            self._evict()
        return notes

    async def find(self, trace_id: str, caller: str) -> bytes:
        """JSON of the caller's answers in this trace, oldest first; raises ``UnknownTimeline`` if there are none."""
        found = [notes for notes in self._kept if notes.trace_id == trace_id and notes.session.caller == caller]
        if not found:
            raise UnknownTimeline("trace_id: no answer of this trace is known here, or it was forgotten by now")
        sizes = itertools.accumulate(notes.size for notes in reversed(found))
        told = max(1, sum(size <= MAX_BYTES_TOLD for size in sizes))
        async with self._one_at_a_time:
            return await asyncio.to_thread(_document, trace_id, found[-told:])

    def _grown(self, by: int) -> None:
        self.size += by
        while self.size > self._most_bytes:
            self._evict()

    def _evict(self) -> None:
        oldest = self._kept.popleft()
        self.size -= oldest.size
        oldest.evict()


def _document(trace_id: str, answers: Sequence[Notes]) -> bytes:
    return orjson.dumps({"trace_id": trace_id, "answers": [notes.body() for notes in answers]})
