"""Drafts what earlier sessions of the fleet said after the same words.

SuffixDecoding (Oliaro et al. 2024, arXiv 2411.04975): agents and pipelines say much the same again and again. As there,
the options have vLLM's names and defaults, and outputs are remembered rather than prompts. What a session itself has
said, ngram finds.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from drafter_service.drafters.matching import MatchingDrafter
from drafter_service.drafters.scopes import memory_key
from drafter_service.memory import SuffixMemory
from drafter_service.session import DraftSession
from paceline.logs import get_logger
from paceline.segments import check_writable
from paceline.speculation.policy import NO_SCOPE
from paceline.speculation.suffixes import Segment, finished_text

logger = get_logger(__name__)

PUBLISHED = 4096
"""Sessions of which is known how much of them is remembered."""


@dataclass(frozen=True)
class Snapshot:
    """Where the memory lies while nobody runs, and the tokenizer that its tokens mean something to."""

    directory: Path
    tokenizer_hash: str


class SuffixDrafter(MatchingDrafter):
    """Looks up the finished sessions of the same cache scope: its own, or those of the whole fleet.

    Where one tokenizer is known all targets say their texts in it and share them; else each target has its own.
    """

    name = "suffix"

    def __init__(
        self,
        memory: SuffixMemory,
        snapshot: Snapshot | None = None,
        *,
        told: bool = False,
        max_tree_depth: int = 24,
        max_spec_factor: float = 1.0,
        min_token_prob: float = 0.1,
    ) -> None:
        """``told``: somebody else fills the memory with what all sessions of the fleet said, those drafted for too."""
        super().__init__(max_tree_depth, max_spec_factor, min_token_prob)
        self._memory, self._snapshot, self._told = memory, snapshot, told
        self._published: OrderedDict[str, int] = OrderedDict()
        if snapshot:
            check_writable(snapshot.directory, "snapshot")  # now rather than when all is to be kept
            if snapshot.directory.exists() and any(snapshot.directory.iterdir()):
                memory.load(snapshot.directory, snapshot.tokenizer_hash)

    def segments(self, session: DraftSession) -> Sequence[Segment]:
        scope = session.attach.speculation.cache_scope
        return () if scope == NO_SCOPE else self._memory.segments(self._key(session))

    def closed(self, session: DraftSession) -> None:
        """Remembers what was said, and as much before it as a match may need; a session that comes back, its rest."""
        attach, length = session.attach, len(session.tokens)
        scope, first = (
            attach.speculation.cache_scope,
            max(attach.prompt_length, self._published.get(attach.session_id, 0)),
        )
        text = finished_text(scope, session.tokens, first, self.longest)
        if self._told or not text or length == len(attach.token_ids):  # nothing new was heard of it
            return
        self._published[attach.session_id] = length
        if len(self._published) > PUBLISHED:
            self._published.popitem(last=False)
        self._memory.remember(self._key(session), text)

    def _key(self, session: DraftSession) -> str:
        one_tokenizer = self._told or self._snapshot is not None
        return session.attach.speculation.cache_scope if one_tokenizer else memory_key(session)

    def stop(self) -> None:
        try:
            if self._snapshot:
                self._memory.save(self._snapshot.directory, self._snapshot.tokenizer_hash)
        except OSError as error:
            logger.warning("the memory is not kept, what was kept before stays", error=error)
        finally:
            self._memory.stop()
