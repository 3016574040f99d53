"""One session's news on its way to a reader who may be slow: what is not read yet becomes one event."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import chain, groupby
from typing import TypeVar

from paceline.messages import CommittedTokens, SessionEvent

ItemT = TypeVar("ItemT")

MAX_UNREAD = 64
"""Events kept as they came; then they are put together."""
MAX_DRAFTING_EVENTS = 4096
"""Drafting events kept for a reader; of more, the oldest are not told."""
PATIENCE_SECONDS = 30.0
"""A reader who has not taken the end of a session so long after it is dropped."""


class Mailbox:
    """Takes events and never waits; holds no more than the tokens of one text, however slowly they are read."""

    def __init__(
        self,
        on_end: Callable[[int], None] | None = None,
        reader: asyncio.Task[object] | None = None,
        patience_seconds: float = PATIENCE_SECONDS,
        on_tokens: Callable[[CommittedTokens], None] | None = None,
    ) -> None:
        """``on_end`` is called with the number of tokens when the session is over, read or not; ``reader`` is
        cancelled if the mailbox is not closed in time after that. ``on_tokens`` hears of each step's, read or not."""
        self.tokens = 0
        """Committed so far, read or not."""
        self._on_end, self._reader, self._patience_seconds = on_end, reader, patience_seconds
        self._on_tokens = on_tokens
        self._unread: list[SessionEvent] = []
        self._news = asyncio.Event()
        self._ended = False
        self._failure: Exception | None = None
        self._patience: asyncio.TimerHandle | None = None

    def put_nowait(self, event: SessionEvent) -> None:
        """What comes after the last event is dropped."""
        if self._ended:
            return
        if event.committed is not None:
            self.tokens += len(event.committed.token_ids)
            if self._on_tokens is not None:
                self._on_tokens(event.committed)
        self._unread.append(event)
        if len(self._unread) > MAX_UNREAD:
            self._unread = list(_together(self._unread))
        self._news.set()
        if event.last:
            self._ended = True
            if self._on_end is not None:
                self._on_end(self.tokens)
            if self._reader is not None:
                loop = asyncio.get_running_loop()
                self._patience = loop.call_later(self._patience_seconds, self._reader.cancel)

    def fail(self, error: Exception) -> None:
        """The reader is to raise it, after what has come before."""
        self._failure = error
        self._news.set()

    async def get(self) -> SessionEvent:
        """All that has come since the last time as one event; a verifier that was lost stands alone."""
        while not self._unread:
            if self._failure is not None:
                raise self._failure
            self._news.clear()
            await self._news.wait()
        first, *rest = _together(self._unread)
        self._unread = rest
        return first

    @property
    def unread(self) -> int:
        """Events that are kept for the reader."""
        return len(self._unread)

    def close(self) -> None:
        """Nobody reads any more, or all is read."""
        if self._patience is not None:
            self._patience.cancel()


def _together(events: Sequence[SessionEvent]) -> Iterator[SessionEvent]:
    for _, alike in groupby(events, key=lambda event: (event.epoch, event.rejected is not None)):
        yield merge(list(alike))


def merge(events: Sequence[SessionEvent]) -> SessionEvent:
    """Events of one session and epoch as one; totals are those of the latest that has them."""
    last = events[-1]
    if len(events) == 1:
        return last
    return replace(
        last,
        opened=any(event.opened for event in events),
        committed=_merge_tokens([event.committed for event in events if event.committed]),
        usage=_latest(event.usage for event in events),
        overlap=_latest(event.overlap for event in events),
        detail=_latest(event.detail or None for event in events) or "",
        events=tuple(chain.from_iterable(event.events for event in events))[-MAX_DRAFTING_EVENTS:],
    )


def _merge_tokens(parts: Sequence[CommittedTokens]) -> CommittedTokens | None:
    if not parts:
        return None
    return CommittedTokens(
        position=parts[0].position,
        token_ids=tuple(chain.from_iterable(part.token_ids for part in parts)),
        prefix_hash=parts[-1].prefix_hash,
        logprobs=tuple(chain.from_iterable(part.logprobs for part in parts)),
        drafters=tuple(chain.from_iterable(part.drafters for part in parts)),
        steps=tuple(chain.from_iterable(part.counted for part in parts)),
    )


def _latest(values: Iterable[ItemT | None]) -> ItemT | None:
    return next((value for value in reversed(list(values)) if value is not None), None)
