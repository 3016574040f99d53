"""One session that the gateway is streaming: from the verifier's events to a client's chunks."""

from __future__ import annotations

import contextlib
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field

from gateway.coordinator import Crew
from gateway.mailbox import Mailbox
from gateway.stops import StopStrings, Token
from gateway.text import Detokenizer
from gateway.workers import VerifierWorker
from paceline.emulation import SYNTHETIC
from paceline.errors import (
    DataLoss,
    FailedPrecondition,
    NotFound,
    PacelineError,
    PermissionDenied,
    ResourceExhausted,
    TargetFailed,
    Unavailable,
)
from paceline.messages import (
    AbortSession,
    Chunk,
    CommittedTokens,
    Completion,
    FinishReason,
    OpenSession,
    OverlapStatistics,
    Rejection,
    SessionEvent,
    Status,
    Usage,
    VerifierDescription,
)
from paceline.speculation.fields import FieldError

_REFUSALS: dict[Status, type[PacelineError]] = {
    Status.NOT_FOUND: NotFound,
    Status.PERMISSION_DENIED: PermissionDenied,
    Status.RESOURCE_EXHAUSTED: ResourceExhausted,
    Status.FAILED_PRECONDITION: FailedPrecondition,
    Status.DATA_LOSS: DataLoss,
    Status.UNAVAILABLE: Unavailable,
}


class RefusedRequest(FieldError, PacelineError):
    """A verifier refused a request for one of its fields; the message is the verifier's."""

    def __init__(self, detail: str) -> None:
        ValueError.__init__(self, detail)
        self.field, self.value, self.expected = "request", "", detail


@dataclass
class Running:
    """A session's stream. ``started`` is when its request came."""

    opening: OpenSession
    verifier: VerifierWorker
    events: Mailbox
    crew: Crew
    seed: int
    stop: Sequence[str]
    started: float
    first_token_at: float = 0.0
    last_token_at: float = 0.0
    said: list[int] = field(default_factory=list)
    """Tokens that the client was given, those held back not yet among them."""
    failed: bool = False
    _detokenizer: Detokenizer = field(init=False)
    _stops: StopStrings = field(init=False)

    def __post_init__(self) -> None:
        assert self.verifier.codec is not None, "a healthy verifier has given us its tokenizer"
        self._detokenizer = self.verifier.codec.detokenizer()
        self._stops = StopStrings(self.stop, self.opening.sampling.min_tokens)

    @property
    def tokenizer_hash(self) -> str:
        assert self.verifier.codec is not None, "a healthy verifier has given us its tokenizer"
        return self.verifier.codec.hash

    async def stream(self) -> AsyncIterator[Chunk]:
        """Chunks until the text ends, by the verifier's word or a stop string: the first one, which comes when the
        verifier has taken the session on, has the seed, the last one the completion."""
        event = await self._next()
        yield Chunk(self.opening.session_id, seed=self.seed)
        while True:
            tokens = self._stops.add(self._tokens(event.committed))
            if self._stops.found:
                yield self._chunk(event, tokens, await self._stopped(event))
                return
            if event.last:
                yield self._last_chunk(event, tokens)
                return
            if tokens or event.events:
                yield self._chunk(event, tokens)
            event = await self._next()

    async def _next(self) -> SessionEvent:
        """The next event; the crew has heard what it says of drafters. Raises what ended the session, if it failed."""
        event = await self.events.get()
        if event.rejected is not None:
            raise _refusal(event.rejected)
        if event.epoch == 0:
            raise Unavailable(event.detail)
        if event.finish_reason is FinishReason.ERROR:
            raise TargetFailed(event.detail)
        if event.overlap is not None:
            (self.crew.look if event.last else self.crew.heard)(event.overlap)
        return event

    def _tokens(self, committed: CommittedTokens | None) -> list[Token]:
        if committed is None:
            return []
        self.last_token_at = time.monotonic()
        self.first_token_at = self.first_token_at or self.last_token_at
        pieces = self._detokenizer.add(committed.token_ids)
        logprobs = committed.logprobs or (None,) * len(pieces)
        drafters = committed.drafters or (None,) * len(pieces)
        return [Token(*row) for row in zip(committed.token_ids, pieces, logprobs, drafters, strict=True)]

    async def _stopped(self, event: SessionEvent) -> SessionEvent:
        """The verifier's last event, after a stop string has ended the text."""
        with contextlib.suppress(PacelineError):  # the text is whole, whatever has become of what lay beyond it
            if not event.last:
                self.verifier.send(AbortSession(self.opening.session_id, self.opening.epoch))
            while not event.last:
                event = await self._next()
        return event

    # -- chunks --------------------------------------------------------------------------------------------------------

    def _chunk(self, event: SessionEvent, tokens: Sequence[Token], last: SessionEvent | None = None) -> Chunk:
        position, token_ids = len(self.said), tuple(token.token_id for token in tokens)
        self.said += token_ids
        return Chunk(
            self.opening.session_id,
            "".join(token.piece for token in tokens),
            token_ids,
            position,
            completion=self._completion(last) if last else None,
            piece_lengths=tuple(len(token.piece) for token in tokens),
            logprobs=tuple(token.logprobs for token in tokens if token.logprobs is not None),
            drafters=tuple(token.drafters for token in tokens if token.drafters is not None),
            events=event.events,
        )

    def _last_chunk(self, event: SessionEvent, tokens: list[Token]) -> Chunk:
        """With what was held back; text that no token completed belongs to the last one."""
        held, rest = self._stops.flush(self._detokenizer.flush())
        tokens += held
        if rest and tokens:
            last = tokens[-1]
            tokens[-1] = Token(last.token_id, last.piece + rest, last.logprobs, last.drafters)
        return self._chunk(event, tokens, event)

    def _completion(self, last: SessionEvent) -> Completion:
        description = self.verifier.description
        assert description is not None, "the session was opened on a known verifier"
        spread, cached = self.last_token_at - self.first_token_at, last.usage.cached_tokens if last.usage else 0
        reason = FinishReason.STOP if self._stops.found else last.finish_reason
        assert reason is not None, "the last event has one"
        return Completion(
            finish_reason=reason,
            usage=Usage(self.opening.prompt_length, len(self.said), cached),
            overlap=last.overlap or OverlapStatistics(),
            mode=self.opening.speculation.mode,
            exactness=exactness(description),
            ttft_seconds=self.first_token_at - self.started if self.first_token_at else 0.0,
            tpot_seconds=spread / (len(self.said) - 1) if len(self.said) > 1 else 0.0,
            stop_reason=self._stops.found,
        )


def exactness(description: VerifierDescription) -> str:
    """What the text may be relied on for, given how the target is computed."""
    fingerprint = description.fingerprint
    if SYNTHETIC in fingerprint.numerics:
        return f"{SYNTHETIC}: texts are not the target's"
    deterministic = fingerprint.numerics == "deterministic"
    equal = "bitwise equal texts" if deterministic else f"equal texts up to near-ties of {fingerprint.dtype} logits"
    return f"every token an exact draw; {equal}"


def _refusal(rejection: Rejection) -> Exception:
    if rejection.status is Status.INVALID_ARGUMENT:
        return RefusedRequest(rejection.detail)
    return _REFUSALS.get(rejection.status, PacelineError)(rejection.detail)
