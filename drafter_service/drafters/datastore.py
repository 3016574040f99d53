"""Drafts what comes next in a user's own texts, where they read the same.

REST (He et al. 2023, arXiv 2311.08252): retrieval by longest suffix match instead of a draft model. The datastore is
built once with ``paceline datastore build`` and memory-mapped, so that it may be larger than memory.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from drafter_service.drafters.matching import MatchingDrafter
from drafter_service.session import DraftSession
from paceline.segments import read_segments
from paceline.speculation.suffixes import Segment

LONGEST = 24
"""Longest match that is told apart."""


class DatastoreDrafter(MatchingDrafter):
    """Looks up one datastore, the same for all sessions."""

    name = "datastore"

    def __init__(self, directory: Path, tokenizer_hash: str) -> None:
        super().__init__(LONGEST)
        self._segments = [stored.segment for stored in read_segments(directory, tokenizer_hash, "datastore")]

    def segments(self, session: DraftSession) -> Sequence[Segment]:
        return self._segments
