"""Drafts by looking up the longest suffix of the text earlier in the same text.

Input-guided Aggressive Decoding (Sun et al. 2021) and prompt lookup (Saxena 2023): text that is being edited, quoted or
repeated is its own best drafter.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from drafter_service.session import DraftSession
from paceline.speculation.tree import Node

LONGEST, SHORTEST = 5, 2
CHAIN = 10
"""Tokens proposed after a match, at most."""
HIT_RATE = {2: 0.35, 3: 0.55, 4: 0.7, 5: 0.85}
"""Chance that the next token repeats too, by length of the match (measured on held-out code, docs/log.md)."""


@dataclass
class _Index:
    """Where each n-gram of the text last ended: ``ends[n][ngram]`` is the position after it."""

    tokens: list[int] = field(default_factory=list)
    ends: dict[int, dict[tuple[int, ...], int]] = field(
        default_factory=lambda: {length: {} for length in range(SHORTEST, LONGEST + 1)}
    )

    def extend(self, token_ids: Sequence[int]) -> None:
        """Indexes new tokens; the n-gram that ends the text is entered only when a token follows it."""
        for token_id in token_ids:
            end = len(self.tokens)
            for length, ends in self.ends.items():
                if end >= length:
                    ends[tuple(self.tokens[end - length :])] = end
            self.tokens.append(token_id)

    def match(self) -> tuple[int, int] | None:
        """The longest suffix seen before, as its length and the position after its last occurrence."""
        for length in range(LONGEST, SHORTEST - 1, -1):
            end = self.ends[length].get(tuple(self.tokens[-length:]))
            if end is not None:
                return length, end
        return None


class NgramDrafter:
    """A look-up drafter; see ``DraftKind`` for the calls."""

    name = "ngram"

    def __init__(self) -> None:
        self._indexes: dict[str, _Index] = {}
        self._proposed_at: dict[str, int] = {}

    def open(self, session: DraftSession) -> None:
        self._indexes[session.session_id] = index = _Index()
        self._proposed_at[session.session_id] = -1
        index.extend(session.tokens)

    def close(self, session: DraftSession) -> None:
        self._indexes.pop(session.session_id, None)
        self._proposed_at.pop(session.session_id, None)

    def rewind(self, session: DraftSession, length: int) -> None:
        self.open(session)

    def advance(self, session: DraftSession) -> None:
        index = self._indexes[session.session_id]
        index.extend(session.tokens[len(index.tokens) :])

    def growable(self, session: DraftSession) -> bool:
        """Once per root: nothing new is known before the next token."""
        return self._proposed_at[session.session_id] != session.tree.root.position

    def grow(self, sessions: Sequence[DraftSession]) -> None:
        for session in sessions:
            self._proposed_at[session.session_id] = session.tree.root.position
            self._propose(session)

    def _propose(self, session: DraftSession) -> None:
        index = self._indexes[session.session_id]
        found = index.match()
        if found is None:
            return
        length, end = found
        node: Node = session.tree.root
        for token_id in index.tokens[end : end + CHAIN]:
            if node.position >= session.max_position:
                return
            node = session.add(node, token_id, math.log(HIT_RATE[min(length, LONGEST)]))
            length += 1
