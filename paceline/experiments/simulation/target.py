"""What a verifier asks of its model, without one: rows are counted, blocks never run out."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from paceline.engine.blocks import BLOCK_SIZE, BlockPool, PrefixKeys
from paceline.engine.runner import Logits
from paceline.experiments.simulation.acceptance import Text
from paceline.speculation.tree import Node, Selection
from verifier_service.plan import Plan

_NO_LOGITS: Logits = np.zeros((1, 1), np.float32)


class CountedRows:
    """A session's rows in a cache that holds everything."""

    def __init__(self) -> None:
        self.num_computed_tokens = 0
        self.block_table: list[int] = []

    @property
    def length(self) -> int:
        return self.num_computed_tokens

    def keep(self, rows: Sequence[int], commit: int) -> None:
        self.num_computed_tokens += commit

    def share(self, token_ids: Sequence[int]) -> None:
        """Prompts have nothing in common here."""

    def reserve(self, capacity: int) -> None:
        """There is always room."""

    def stretch(self, rows: int) -> int:
        return rows

    def close(self) -> None:
        """Nothing is held."""


class _Cache:
    def __init__(self, tokens: int) -> None:
        self.pool = BlockPool(-(-tokens // BLOCK_SIZE))


class CountingRunner:
    """In a ``ModelRunner``'s place; its forwards are only waited for."""

    def __init__(self, cache_tokens: int) -> None:
        self.cache = _Cache(cache_tokens)

    def open(self, max_tail: int, token_ids: Sequence[int] = (), keys: PrefixKeys | None = None) -> CountedRows:
        return CountedRows()


class Told:
    """In ``SyntheticAcceptance``'s place: the target says what its texts say."""

    def __init__(self) -> None:
        self.texts: dict[int, Text] = {}
        """By noise key."""

    def choice(self, own: Callable[[int], int], selection: Selection, root: Node, key: int) -> Callable[[int], int]:
        tokens, nodes = self.texts[key].tokens, selection.nodes

        def choose(row: int) -> int:
            return tokens[(nodes[row - 1] if row else root).position + 1]

        return choose


def no_logits(plan: Plan) -> list[Logits]:
    """As many as a forward would give."""
    return [_NO_LOGITS] * len(plan)


def rows_of(plan: Plan) -> tuple[int, int]:
    """Rows of roots and their nodes, and of prompts."""
    decoded = sum(len(entry.token_ids) for entry in plan if entry.selection is not None)
    return decoded, sum(len(entry.token_ids) for entry in plan) - decoded
