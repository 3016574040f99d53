"""Drafts from tokens that the target had in mind before: what it held likely after a token comes again.

Token Recycling (Luo et al. 2024, arXiv 2408.08696): a matrix with a few candidates for each token, replaced by the
target's best ones whenever it has computed them anyway, and a tree that follows rows breadth-first. Here the tree grows
best-first, so what a rank is worth is counted as texts go on instead of being fixed by a template.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import islice, pairwise
from typing import NamedTuple

import numpy as np

from drafter_service.drafters.lookup import Branch, Branches, LookupDrafter
from drafter_service.drafters.scopes import PerTarget, ScopedMemories
from drafter_service.session import DraftSession
from paceline.speculation.accept import NodeCandidates

RANKS = 8
"""Candidates kept for a token; as many as a verifier tells."""
ROWS = 52_000
"""Tokens with a row, under 2 MiB in all. Larger ids share rows with smaller ones: the token used last has it."""
STREAK = 3
"""So many times in a row that a first candidate was right are told apart."""
PRIORS = (0.5, 0.4, 0.6, 0.8, 0.45, 0.65, 0.8, 0.9)
"""Chance that the next token is in the row, by strength (measured on code with the embedded target)."""
_RANK_MEMORY, _LEAST_COUNT = 0.995, 1e-3
_MASK = (1 << 32) - 1


class Row(NamedTuple):
    """What is known of the token after another one, the best candidate first."""

    streak: int
    candidates: list[int]

    @property
    def strength(self) -> int:
        """A full row has candidates that the target computed, one that is not was read in a text."""
        return self.streak + (STREAK + 1) * (len(self.candidates) == RANKS)


class Adjacency:
    """The matrix: a row of candidates for each token.

    Columns are the row's token, its streak and the candidates. Token ids are stored plus one, so that a matrix of
    zeros is empty and takes up memory only where it is written to.
    """

    def __init__(self) -> None:
        self._rows = np.zeros((ROWS, 2 + RANKS), np.uint32)

    @property
    def nbytes(self) -> int:
        return self._rows.nbytes

    def row(self, token_id: int) -> Row | None:
        owner, streak, *stored = self._rows[token_id % ROWS].tolist()
        if owner != token_id + 1:
            return None
        return Row(streak, [candidate - 1 for candidate in stored if candidate])

    def replace(self, token_id: int, candidates: Iterable[int]) -> None:
        """These candidates, best first, are all that may follow; the streak is the token's and stays."""
        row, owner = self._rows[token_id % ROWS], (token_id + 1) & _MASK
        if row[0] != owner:
            row[:2] = owner, 0
        stored = [(candidate + 1) & _MASK for candidate in islice(candidates, RANKS)]
        row[2:] = stored + [0] * (RANKS - len(stored))

    def fill(self, token_id: int, candidates: Iterable[int]) -> None:
        """Puts these candidates behind those that are known already, as far as there is room."""
        known = self.row(token_id)
        self.replace(token_id, dict.fromkeys([*known.candidates, *candidates]) if known else candidates)

    def read(self, token_ids: Sequence[int]) -> None:
        """Moves the tokens that followed in a text to the front, the latest first."""
        followers: dict[int, dict[int, None]] = {}
        for after, before in pairwise(reversed(token_ids)):
            followers.setdefault(before, {})[after] = None
        for token_id, latest in followers.items():
            known = self.row(token_id)
            self.replace(token_id, latest | dict.fromkeys(known.candidates) if known else latest)

    def judge(self, token_id: int, *, right: bool) -> None:
        """Whether the first candidate of a token's row came true; a miss takes more than a hit gives."""
        row = self._rows[token_id % ROWS]
        row[1] = min(int(row[1]) + 1, STREAK) if right else row[1] // 2


class RankShares:
    """How often the k-th candidate of a row was the next token, for each strength of rows; older outcomes fade."""

    def __init__(self) -> None:
        prior = [2.0 ** (2 - rank) for rank in range(RANKS)]
        self._counts = [list(prior) for _ in PRIORS]

    def add(self, strength: int, rank: int) -> None:
        counts = self._counts[strength]
        counts[:] = [_RANK_MEMORY * count for count in counts]
        counts[rank] += 1.0

    def shares(self, strength: int, ranks: int) -> list[float]:
        """Of the first ``ranks`` ranks, adding up to 1."""
        counts = [max(count, _LEAST_COUNT) for count in self._counts[strength][:ranks]]
        total = sum(counts)
        return [count / total for count in counts]


class View(NamedTuple):
    """What one growth looks at."""

    matrix: Adjacency
    ranks: RankShares
    width: int


class RecyclingDrafter(LookupDrafter[tuple[View, int]]):
    """Follows rows of candidates from the last token on."""

    name = "recycling"

    def __init__(self, *, updates: bool = True, memory: bool = True) -> None:
        """For ablations: without ``updates`` a matrix knows prompts only, without ``memory`` only its own session's."""
        super().__init__(PRIORS)
        self._updates = self.wants_candidates = updates
        self._memories = ScopedMemories(Adjacency, memory=memory)
        self._matrices: dict[str, Adjacency] = {}
        self._ranks = PerTarget(RankShares)

    def opened(self, session: DraftSession) -> None:
        self._matrices[session.session_id] = matrix = self._memories.of(session)
        matrix.read(session.tokens)

    def closed(self, session: DraftSession) -> None:
        del self._matrices[session.session_id]

    def extended(self, session: DraftSession, token_ids: Sequence[int]) -> None:
        """Rows are held against the text, and follow it as long as the target's candidates are not known."""
        matrix, ranks = self._matrices[session.session_id], self._ranks.of(session)
        text = session.tokens[-len(token_ids) - 1 :]
        for before, after in pairwise(text):
            row = matrix.row(before)
            if row is None:
                continue
            if after in row.candidates:
                ranks.add(row.strength, row.candidates.index(after))
            matrix.judge(before, right=after == row.candidates[0])
        if self._updates:
            matrix.read(text)

    def learn(
        self, session: DraftSession, candidates: Sequence[Sequence[int]], beside: Sequence[NodeCandidates] = ()
    ) -> None:
        """A token's row is that of its last place in the text; what was verified beside the text only stands behind."""
        if not self._updates:
            return
        matrix = self._matrices[session.session_id]
        for node in beside:
            matrix.fill(node.token_id, node.best)
        for before, best in zip(reversed(session.tokens[:-1]), reversed(candidates), strict=False):
            matrix.replace(before, best)

    def begin(self, session: DraftSession) -> tuple[View, int]:
        ranks = self._ranks.of(session)
        return View(self._matrices[session.session_id], ranks, session.width), session.tokens[-1]

    def follow(self, place: tuple[View, int]) -> Branches[tuple[View, int]] | None:
        view, token_id = place
        row = view.matrix.row(token_id)
        if row is None:
            return None
        candidates = row.candidates[: view.width]
        shares = view.ranks.shares(row.strength, len(candidates))
        return Branches(
            row.strength,
            [Branch(after, share, (view, after)) for after, share in zip(candidates, shares, strict=True)],
        )
