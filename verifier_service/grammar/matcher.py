"""One text and its grammar: where it stands, what must come, and what may come after each row of a step."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np

from verifier_service.grammar.backend import Allowed, Bits, Compiled, GrammarFailed, State

SOURCE = "grammar"
"""What a grammar is called among those that propose nodes."""


@dataclass(frozen=True)
class Masks:
    """What may follow the rows of one step. Rows whose path the grammar does not have are not there, nor are those
    after a stop token: no mask that was computed for another row, or another step, can be taken for theirs."""

    rows: dict[int, Bits]
    vocabulary_size: int
    failure: str = ""

    def allowed(self, row: int) -> Allowed:
        """Of a row that the walk stands on. Raises ``GrammarFailed`` when it has none."""
        if row not in self.rows:
            raise GrammarFailed(self.failure or f"row {row} was reached without a mask")
        return np.unpackbits(self.rows[row], count=self.vocabulary_size, bitorder="little").view(np.bool_)


class Matcher:
    """Follows the committed text alone: what is only proposed is taken back before anybody else looks.

    ``masks`` and ``forced`` are for the thread that owns the device, or for one that it waits for; ``commit`` and
    ``admits`` need the verifier's lock.
    """

    def __init__(
        self,
        compiled: Compiled,
        token_ids: Sequence[int],
        vocabulary_size: int,
        stop_token_ids: Collection[int],
        *,
        ignore_eos: bool = False,
    ) -> None:
        """``token_ids``: what is committed already, without the prompt; ``stop_token_ids`` are the model's. With
        ``ignore_eos`` they may come only where nothing else may. Raises ``GrammarFailed`` if the grammar does not have
        ``token_ids``."""
        self._vocabulary_size, self._stop = vocabulary_size, frozenset(stop_token_ids)
        self._ignored = np.array(sorted(self._stop) if ignore_eos else (), np.intp)
        self._state: State = compiled.start()
        self._follow(self._state, token_ids)
        self._scout = self._state.copy()
        """Stands where ``_state`` does; drafts are held against it while a step is under way."""
        self._astray = False
        """A limit was hit below the root; ``_state`` is of no use until the next commit."""
        self._failure = ""

    def commit(self, token_ids: Sequence[int]) -> None:
        """Tokens have become part of the text."""
        try:
            if self._astray:
                self._state, self._astray = self._scout.copy(), False
            for state in (self._state, self._scout):
                self._follow(state, token_ids)
        except GrammarFailed as error:
            self._failure = str(error)

    def _follow(self, state: State, token_ids: Sequence[int]) -> None:
        for token_id in token_ids:
            if token_id not in self._stop and not state.advance(token_id):
                raise GrammarFailed(f"token {token_id} of the text is not of its grammar")

    def admits(self, path: Sequence[int]) -> bool:
        """Whether these tokens could come next, one after the other; a stop token may be the last."""
        token_ids = path[:-1] if path and path[-1] in self._stop else path
        return self._scout.admits(token_ids) == len(token_ids)

    def forced(self) -> list[int]:
        """What must come next, as far as the grammar alone decides it."""
        return [] if self._failure or self._astray else self._state.forced()

    # -- masks ---------------------------------------------------------------------------------------------------------

    def masks(self, token_ids: Sequence[int], parents: Sequence[int]) -> Masks:
        """For the rows of a step, row 0 the root; ``parents[i]`` is the row of row ``i``'s parent, always before it."""
        rows: dict[int, Bits] = {}
        failure = self._failure
        children: dict[int, list[int]] = {}
        for row in range(1, len(token_ids)):
            children.setdefault(parents[row], []).append(row)
        if not failure:
            try:
                self._visit(0, token_ids, children, rows)
            except GrammarFailed as error:
                failure, self._astray = str(error), True
        return Masks(rows, self._vocabulary_size, failure)

    def _visit(self, row: int, token_ids: Sequence[int], children: dict[int, list[int]], rows: dict[int, Bits]) -> None:
        """Depth first, from a row whose path the state has taken."""
        rows[row] = bits = self._without_ignored(self._state.bits())
        for child in children.get(row, ()):
            token_id = token_ids[child]
            if token_id in self._stop or not bits[token_id >> 3] >> (token_id & 7) & 1:
                continue
            if not self._state.advance(token_id):
                raise GrammarFailed(f"token {token_id} is allowed and refused")
            self._visit(child, token_ids, children, rows)
            self._state.rollback(1)

    def _without_ignored(self, bits: Bits) -> Bits:
        if not len(self._ignored):
            return bits
        kept = bits.copy()
        np.bitwise_and.at(kept, self._ignored >> 3, ~(1 << (self._ignored & 7)).astype(np.uint8))
        return kept if kept.any() else bits
