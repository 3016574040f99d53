"""What finished sessions said, kept sorted, scope by scope: bounded, and never in the way of the thread that drafts.

Log-structured: a finished text waits until a thread beside has sorted it together with the newest segments that are
not much larger, so that segments grow geometrically and each token is sorted again a logarithmic number of times.
Numpy does the sorting without the interpreter's lock. The largest segments hold a quarter of the memory and are dropped
whole.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from paceline.logs import get_logger
from paceline.segments import Stored, read_position, read_segments, write_segments
from paceline.speculation.suffixes import Segment, Tokens, backwards

GROWTH = 4
"""A segment is sorted again with newer text once that is a quarter of it."""
PARTS = 4
"""The largest segments hold such a part of the memory; a fold and an eviction are no larger."""

logger = get_logger(__name__)


@dataclass(frozen=True, eq=False)
class _Text:
    """A finished text that is not sorted yet."""

    scope: str
    tokens: Tokens


@dataclass(frozen=True, eq=False)
class _Held:
    """A sorted segment."""

    scope: str
    segment: Segment
    documents: int


@dataclass(frozen=True)
class _Fold:
    """What becomes one segment: the newest segments of a scope and texts that wait."""

    scope: str
    held: tuple[_Held, ...]
    texts: tuple[_Text, ...]

    @property
    def documents(self) -> int:
        return sum(held.documents for held in self.held) + len(self.texts)


class SuffixMemory:
    """Texts by scope, ``max_tokens`` and ``max_documents`` in all; the oldest are dropped first."""

    def __init__(self, max_tokens: int, max_documents: int) -> None:
        self._max_tokens, self._max_documents = max_tokens, max_documents
        self.tokens = self.documents = 0
        """Held, whether sorted or not; separators count."""
        self.position = ""
        """Where the last text stood in the stream that it came from, if it did."""
        self._lock = threading.Lock()
        self._waiting: dict[_Text, None] = {}
        self._held: dict[_Held, None] = {}
        self._rows: dict[str, tuple[_Held, ...]] = {}
        """``_held`` by scope; as there, old to new."""
        self._folder = ThreadPoolExecutor(1, "folding")

    def segments(self, scope: str) -> list[Segment]:
        """What is known in a scope, old to new."""
        return [held.segment for held in self._rows.get(scope, ())]

    def remember(self, scope: str, token_ids: Sequence[int] | Tokens) -> None:
        """Takes a finished text, of a very long one the end; it is found once it is sorted."""
        text = _Text(scope, backwards([token_ids[-(self._max_tokens // PARTS - 2) :]]))
        with self._lock:
            self._waiting[text] = None
            self._count(len(text.tokens), 1)
            self._evict()
        self._folder.submit(self._fold_all).add_done_callback(_report)

    def settle(self) -> None:
        """Returns when all that was remembered before is sorted."""
        self._folder.submit(lambda: None).result()

    def stop(self) -> None:
        self._folder.shutdown()

    # -- on disk -------------------------------------------------------------------------------------------------------

    def load(self, directory: Path, tokenizer_hash: str) -> None:
        """Takes over what ``save`` wrote; raises ``FieldError`` if it is broken or of another tokenizer."""
        for stored in read_segments(directory, tokenizer_hash, "snapshot"):
            self._hold(_Held(stored.scope, stored.segment, stored.documents), self._rows.get(stored.scope, ()))
        self.position = read_position(directory, "snapshot")
        self._evict()

    def save(self, directory: Path, tokenizer_hash: str) -> None:
        """Writes all to a folder, in the place of the one that was loaded from."""
        self.settle()
        parts = [Stored(held.segment, held.scope, held.documents) for held in self._held]
        write_segments(directory, tokenizer_hash, parts, self.position)

    # -- folding, in a thread beside -----------------------------------------------------------------------------------

    def _fold_all(self) -> None:
        while (fold := self._next_fold()) is not None:
            parts = [*(held.segment.tokens for held in fold.held), *(text.tokens for text in fold.texts)]
            self._hand_over(fold, Segment.join(parts))

    def _next_fold(self) -> _Fold | None:
        """The texts of a scope that wait, as far as they fit, and before them what is not much larger."""
        most, most_documents = self._max_tokens // PARTS, max(1, self._max_documents // PARTS)
        with self._lock:
            if not self._waiting:
                return None
            scope, size, texts = next(iter(self._waiting)).scope, 0, list[_Text]()
            for text in self._waiting:
                if text.scope == scope and size + len(text.tokens) <= most and len(texts) < most_documents:
                    texts.append(text)
                    size += len(text.tokens)
            row, documents = self._rows.get(scope, ()), len(texts)
            first = len(row)
            for held in reversed(row):
                size, documents, before = size + len(held.segment), documents + held.documents, size
                if len(held.segment) > GROWTH * before or size > most or documents > most_documents:
                    break
                first -= 1
            return _Fold(scope, row[first:], tuple(texts))

    def _hand_over(self, fold: _Fold, segment: Segment) -> None:
        """Puts the segment in the place of what it was made of; if some of that was dropped meanwhile, it is, too."""
        with self._lock:
            if any(held not in self._held for held in fold.held) or any(t not in self._waiting for t in fold.texts):
                return
            for text in fold.texts:
                self._forget_text(text)
            row = self._rows.get(fold.scope, ())
            kept = row[: len(row) - len(fold.held)]
            for held in fold.held:
                del self._held[held]
                self._count(-len(held.segment), -held.documents)
            self._hold(_Held(fold.scope, segment, fold.documents), kept)

    # -- the bound -----------------------------------------------------------------------------------------------------

    def _evict(self) -> None:
        """Drops the oldest; called with the lock held."""
        while self.tokens > self._max_tokens or self.documents > self._max_documents:
            if not self._held:
                self._forget_text(next(iter(self._waiting)))
                continue
            oldest = next(iter(self._held))
            del self._held[oldest]
            self._count(-len(oldest.segment), -oldest.documents)
            row = self._rows.pop(oldest.scope)
            if len(row) > 1:
                self._rows[oldest.scope] = row[1:]

    def _hold(self, held: _Held, before: tuple[_Held, ...]) -> None:
        """``before`` it in its scope stay these; one assignment, as readers take no lock."""
        self._held[held] = None
        self._rows[held.scope] = (*before, held)
        self._count(len(held.segment), held.documents)

    def _forget_text(self, text: _Text) -> None:
        del self._waiting[text]
        self._count(-len(text.tokens), -1)

    def _count(self, tokens: int, documents: int) -> None:
        self.tokens += tokens
        self.documents += documents


def _report(folding: Future[None]) -> None:
    error = folding.exception()
    if error:
        logger.error("finished texts could not be sorted", exc_info=error)
