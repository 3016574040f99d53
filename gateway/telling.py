"""From a session's tokens to what its client is told: text by token, up to a stop string, and how it ended."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace

from gateway.stops import StopStrings, Token
from gateway.text import TextCodec
from gateway.tokens import answer_hash
from paceline.errors import DataLoss
from paceline.messages import (
    Chunk,
    CommittedTokens,
    Completion,
    JournaledSession,
    OverlapStatistics,
    SessionEvent,
    Usage,
)
from paceline.messages.sessions import FinishReason
from paceline.speculation.prefix import extend_hash
from paceline.telemetry import trace_id_of

Seal = Callable[[int, int], str]
"""A resume token for so many tokens with this hash."""


class Teller:
    """Of one stream to a client. What it tells is a function of the tokens alone, however they came."""

    def __init__(self, session: JournaledSession, codec: TextCodec, started: float, seal: Seal) -> None:
        """``started`` is when the request came."""
        self._opening, self._seed, self._started, self._seal = session.opening, session.seed, started, seal
        self._detokenizer = codec.detokenizer()
        self._stops = StopStrings(session.stop, session.opening.sampling.min_tokens)
        self.said: list[int] = []
        """Tokens that the client was given, those held back not yet among them."""
        self._hash = answer_hash(session.opening.noise_key, ())
        self._timed = 0
        self._first_token_at = self._last_token_at = 0.0

    @property
    def stopped(self) -> bool:
        """A stop string has ended the text."""
        return bool(self._stops.found)

    def hear(self, committed: CommittedTokens | None) -> list[Token]:
        """What may be told of new tokens."""
        if committed is None:
            return []
        self._last_token_at = time.monotonic()
        self._first_token_at = self._first_token_at or self._last_token_at
        self._timed += len(committed.token_ids)
        return self._tokens(committed)

    def resume(self, past: Sequence[SessionEvent], length: int) -> tuple[Chunk, list[Token]]:
        """The ``length`` tokens that the client has, as if they were told first, and what may be told of what was
        committed after them; of a session that has ended, all of it."""
        told: list[Token] = []
        for event in past:
            if event.committed is not None:
                told += self._tokens(event.committed)
        if past and past[-1].last:
            told = self.flush(told)
        if length > len(told):
            raise DataLoss(f"resume_token: stands for {length} tokens, and {len(told)} may be told")
        had = self.chunk(SessionEvent(self._opening.session_id, self._opening.epoch), told[:length])
        return replace(had, seed=self._seed), told[length:]

    def greeting(self) -> Chunk:
        """The first chunk: the session has been taken on."""
        return Chunk(self._opening.session_id, seed=self._seed, position=len(self.said), resume_token=self._token())

    def chunk(self, event: SessionEvent, tokens: Sequence[Token], completion: Completion | None = None) -> Chunk:
        position = len(self.said)
        self._say(tokens)
        return Chunk(
            self._opening.session_id,
            "".join(token.piece for token in tokens),
            tuple(token.token_id for token in tokens),
            position,
            completion=completion,
            piece_lengths=tuple(len(token.piece) for token in tokens),
            logprobs=tuple(token.logprobs for token in tokens if token.logprobs is not None),
            drafters=tuple(token.drafters for token in tokens if token.drafters is not None),
            events=event.events,
            resume_token=self._token(),
        )

    def flush(self, tokens: list[Token]) -> list[Token]:
        """With what was held back; text that no token completed belongs to the last one."""
        held, rest = self._stops.flush(self._detokenizer.flush())
        tokens = tokens + held
        if rest and tokens:
            last = tokens[-1]
            tokens[-1] = Token(last.token_id, last.piece + rest, last.logprobs, last.drafters)
        return tokens

    def completion(
        self, last: SessionEvent, tokens: int, overlap: OverlapStatistics, exactness: str, warning: str
    ) -> Completion:
        """How the text ended; ``tokens`` are told with it."""
        reason = FinishReason.STOP if self.stopped else last.finish_reason
        assert reason is not None, "the last event has one"
        spread, cached = self._last_token_at - self._first_token_at, last.usage.cached_tokens if last.usage else 0
        return Completion(
            finish_reason=reason,
            usage=Usage(self._opening.prompt_length, len(self.said) + tokens, cached),
            overlap=overlap,
            mode=self._opening.speculation.mode,
            exactness=exactness,
            ttft_seconds=self._first_token_at - self._started if self._first_token_at else 0.0,
            tpot_seconds=spread / (self._timed - 1) if self._timed > 1 else 0.0,
            stop_reason=self._stops.found,
            warning=warning,
            trace_id=trace_id_of(self._opening.traceparent) if self._opening.watched else "",
        )

    def _tokens(self, committed: CommittedTokens) -> list[Token]:
        pieces = self._detokenizer.add(committed.token_ids)
        logprobs = committed.logprobs or (None,) * len(pieces)
        drafters = committed.drafters or (None,) * len(pieces)
        rows = zip(committed.token_ids, pieces, logprobs, drafters, strict=True)
        return self._stops.add([Token(*row) for row in rows])

    def _say(self, tokens: Sequence[Token]) -> None:
        token_ids = [token.token_id for token in tokens]
        self.said += token_ids
        self._hash = extend_hash(self._hash, token_ids)

    def _token(self) -> str:
        return self._seal(len(self.said), self._hash)
