"""What the sessions of a fleet said, published once for all its drafters: a Redis stream for each tokenizer.

Texts are hints, so nothing waits for them: what cannot be published is dropped and counted, what cannot be read is
left out and logged. An entry has the columns ``session_id``, ``cache_scope`` and ``token_ids_u32``.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from redis.exceptions import RedisError

from paceline.cluster.redis_client import Contact, connect, stop
from paceline.errors import FieldError
from paceline.logs import get_logger
from paceline.messages import OpenSession
from paceline.speculation.fields import require
from paceline.speculation.policy import MAX_NAME, NO_SCOPE
from paceline.speculation.suffixes import DEPTH, SEPARATOR, Tokens, finished_text
from paceline.wire.columns import column

STREAM = "paceline:texts:{}"
MAX_TEXTS = 10_000
"""That a stream keeps, about: as many as a drafter remembers by default."""
MAX_TOKENS = 1 << 16
"""Of a longer text the end is published."""
QUEUED = 256
"""Texts that wait to be published, at most."""
BATCH, BLOCK_MS = 64, 2000
RETRY_SECONDS = 0.5
CLOSE_SECONDS = 2.0
"""For what waits when a gateway closes."""
KNOWN = 4096
"""Sessions whose text is not taken again."""
BEGINNING = "0-0"

logger = get_logger(__name__)


@dataclass(frozen=True)
class FinishedText:
    """What a session said, and a little of what stood before it."""

    session_id: str
    cache_scope: str
    token_ids: Tokens

    def to_entry(self) -> dict[Any, Any]:
        packed = self.token_ids.astype("<u4").tobytes()
        return {"session_id": self.session_id, "cache_scope": self.cache_scope, "token_ids_u32": packed}

    @classmethod
    def from_entry(cls, entry: Mapping[bytes, bytes]) -> FinishedText:
        """Raises ``FieldError`` for what no publisher writes."""
        session_id, scope = _name(entry, "session_id"), _name(entry, "cache_scope")
        require(session_id != "", "session_id", "", "a name")
        require(scope != NO_SCOPE, "cache_scope", scope, "the scope of a session that may be remembered")
        tokens = column(entry.get(b"token_ids_u32", b""), "<u4", "token_ids_u32").astype(np.uint32)
        require(0 < len(tokens) <= MAX_TOKENS, "token_ids_u32", f"{len(tokens)} tokens", f"1 to {MAX_TOKENS}")
        require(int(tokens.max()) < SEPARATOR, "token_ids_u32", SEPARATOR, "ids that a vocabulary may have")
        return cls(session_id, scope, tokens)


def _name(entry: Mapping[bytes, bytes], field: str) -> str:
    value = entry.get(field.encode())
    if value is None:
        raise FieldError(field, None, "a name")
    try:
        name = value.decode()
    except UnicodeDecodeError as error:
        raise FieldError(field, value[:MAX_NAME], "UTF-8") from error
    require(len(name) <= MAX_NAME, field, f"{len(name)} characters", f"at most {MAX_NAME}")
    return name


class TextPublisher:
    """Publishes what sessions said, in the background and as well as it can."""

    def __init__(self, url: str) -> None:
        self.dropped = 0
        """Texts that were not published."""
        self._redis = connect(url)
        self._contact = Contact(logger, url, "finished texts are dropped")
        self._waiting: asyncio.Queue[tuple[str, FinishedText]] = asyncio.Queue(QUEUED)
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        self._task = asyncio.create_task(self._publish())

    async def close(self) -> None:
        """Publishes what waits, unless that takes long."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._waiting.join(), CLOSE_SECONDS)
        if self._task:
            await stop(self._task)
        await self._redis.aclose()

    def publish(self, tokenizer_hash: str, opening: OpenSession, said: Sequence[int]) -> None:
        """Takes the text of a session that is over, never waits; a session of scope ``none`` is nobody's business."""
        scope, before = opening.speculation.cache_scope, opening.token_ids[: opening.prompt_length][-DEPTH:]
        tokens = finished_text(scope, [*before, *said], len(before))
        if not tokens or not tokenizer_hash:  # without a tokenizer nobody knows whose tokens they are
            return
        text = FinishedText(opening.session_id, scope, np.array(tokens[-MAX_TOKENS:], np.uint32))
        try:
            self._waiting.put_nowait((STREAM.format(tokenizer_hash), text))
        except asyncio.QueueFull:
            self.dropped += 1
            self._contact.lost(f"{QUEUED} texts wait to be published")

    async def _publish(self) -> None:
        while True:
            stream, text = await self._waiting.get()
            try:
                await self._redis.xadd(stream, text.to_entry(), maxlen=MAX_TEXTS, approximate=True)
                self._contact.back(dropped=self.dropped)
            except (RedisError, OSError) as error:
                self.dropped += 1
                self._contact.lost(error)
            except Exception:
                self.dropped += 1
                logger.exception("unexpected failure in publishing", session=text.session_id)
            finally:
                self._waiting.task_done()


class TextReader:
    """Reads the stream of a tokenizer from a position on, and then what comes."""

    def __init__(self, url: str, tokenizer_hash: str, take: Callable[[FinishedText, str], None], position: str) -> None:
        """``take`` is given each text once, with its position; ``position`` empty: from the beginning."""
        self.position, self.skipped = position or BEGINNING, 0
        """Of the last entry that was read, and how many were malformed."""
        self._redis, self._stream, self._take = connect(url), STREAM.format(tokenizer_hash), take
        self._contact = Contact(logger, url, "no texts of other sessions are learned")
        self._known = OrderedDict[str, None]()
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Reads in the background."""
        self._task = asyncio.create_task(self._follow())

    async def close(self) -> None:
        if self._task:
            await stop(self._task)
        await self._redis.aclose()

    async def _follow(self) -> None:
        while True:
            try:
                found: Any = await self._redis.xread({self._stream: self.position}, count=BATCH, block=BLOCK_MS)
                self._contact.back()
                for position, entry in (pair for _, entries in found for pair in entries):
                    self._read(position.decode(), entry)
            except (RedisError, OSError) as error:
                self._contact.lost(error)
                await asyncio.sleep(RETRY_SECONDS)
            except Exception:
                logger.exception("unexpected failure in reading", position=self.position, stream=self._stream)
                await asyncio.sleep(RETRY_SECONDS)

    def _read(self, position: str, entry: Mapping[bytes, bytes]) -> None:
        self.position = position
        try:
            text = FinishedText.from_entry(entry)
        except FieldError as error:
            self.skipped += 1
            logger.warning("a text is left out", position=position, stream=self._stream, error=error)
            return
        if text.session_id in self._known:  # a publisher that had no answer has asked again
            return
        self._known[text.session_id] = None
        if len(self._known) > KNOWN:
            self._known.popitem(last=False)
        self._take(text, position)
