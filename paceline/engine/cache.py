"""The block KV cache, and the part of it that one session's tokens and tree live in.

A sequence's rows lie in logical order::

    | 0 ...... shared blocks ...... | ...... committed | tail: speculative rows, in the order they were computed |

Committed rows hold K/V of the text itself and are attended by everything. A tail row attends to all committed rows,
to its ancestors in the tail and to itself. ``keep`` is the only operation that turns tail rows into committed ones.
Whole committed blocks may be shared with other sequences and are never written to again.
"""

from __future__ import annotations

from collections.abc import Sequence as Seq

import numpy as np
import numpy.typing as npt
import torch

from paceline.engine.blocks import BlockPool, PrefixKeys
from paceline.engine.config import ModelConfig
from paceline.errors import OutOfBlocks

ROOT = -1
"""As a parent: the last committed row."""

Indices = npt.NDArray[np.int64]


class KVCache:
    """K and V of all layers: ``[layers, 2, slots, kv_heads, head_dim]``."""

    def __init__(self, config: ModelConfig, num_blocks: int, device: torch.device, dtype: torch.dtype) -> None:
        self.pool = BlockPool(num_blocks)
        slots = num_blocks * self.pool.block_size
        shape = (config.layers, 2, slots, config.kv_heads, config.head_dim)
        self.data = torch.zeros(shape, device=device, dtype=dtype)

    def move(self, sources: Indices, targets: Indices) -> None:
        """Copies rows between slots; the two sets may overlap."""
        device = self.data.device
        rows = self.data[:, :, torch.from_numpy(sources).to(device)]
        self.data[:, :, torch.from_numpy(targets).to(device)] = rows


class Sequence:
    """One session's rows in the cache. Blocks are taken by ``adopt`` and ``reserve`` and given back by ``close``."""

    def __init__(self, cache: KVCache, max_tail: int, keys: PrefixKeys | None = None) -> None:
        self._cache = cache
        self._keys = keys or PrefixKeys(block_size=cache.pool.block_size)
        self._shared = 0  # leading blocks that others may hold too
        self.block_table: list[int] = []
        self.slots: Indices = np.zeros(0, np.int64)
        self.contiguous = True
        self.num_computed_tokens = 0
        self.tail = 0
        self.depths: Indices = np.zeros(max_tail, np.int64)
        self.ancestors: npt.NDArray[np.bool_] = np.zeros((max_tail, max_tail), bool)

    @property
    def length(self) -> int:
        """Rows in use: committed ones and the tail."""
        return self.num_computed_tokens + self.tail

    @property
    def room(self) -> int:
        """Tail rows that still fit."""
        return min(len(self.slots) - self.length, len(self.depths) - self.tail)

    # -- blocks --------------------------------------------------------------------------------------------------------

    def adopt(self, token_ids: Seq[int]) -> int:
        """At the start: takes over the blocks of a prefix of ``token_ids`` that is in the cache; returns its length.

        At least the last token is left to compute.
        """
        pool = self._cache.pool
        whole = (len(token_ids) - 1) // pool.block_size
        self._take(pool.find(self._keys.cover(token_ids)[:whole]))
        self._shared = len(self.block_table)
        self.num_computed_tokens = self._shared * pool.block_size
        return self.num_computed_tokens

    def share(self, token_ids: Seq[int]) -> None:
        """Lets others find the wholly committed blocks; ``token_ids`` is the text up to there, or further."""
        pool = self._cache.pool
        whole = self.num_computed_tokens // pool.block_size
        if whole > self._shared:
            keys = self._keys.cover(token_ids[: whole * pool.block_size])
            for index in range(self._shared, whole):
                pool.publish(self.block_table[index], keys[index])
            self._shared = whole

    def reserve(self, capacity: int) -> None:
        """Makes room for ``capacity`` rows; raises ``OutOfBlocks`` when the pool has not enough blocks."""
        pool = self._cache.pool
        missing = -(-capacity // pool.block_size) - len(self.block_table)
        if missing > 0:
            self._take(pool.allocate(missing))

    def stretch(self, rows: int) -> int:
        """Makes room for up to ``rows`` more rows, as far as there are blocks; returns for how many there is."""
        pool = self._cache.pool
        wanted = -(-(self.length + rows) // pool.block_size) - len(self.block_table)
        self.reserve((len(self.block_table) + min(max(wanted, 0), pool.free)) * pool.block_size)
        return min(rows, len(self.slots) - self.length)

    def close(self) -> None:
        """Gives the blocks back; further calls do nothing."""
        self._cache.pool.release(self.block_table)
        self.block_table = []

    def _take(self, blocks: Seq[int]) -> None:
        size = self._cache.pool.block_size
        fresh = (np.asarray(blocks, np.int64)[:, None] * size + np.arange(size, dtype=np.int64)).ravel()
        joined = not len(self.slots) or not len(fresh) or fresh[0] == self.slots[-1] + 1
        self.contiguous = self.contiguous and bool(joined and (np.diff(fresh) == 1).all())
        self.block_table += blocks
        self.slots = np.concatenate([self.slots, fresh])

    # -- rows ----------------------------------------------------------------------------------------------------------

    def append(self, parents: Seq[int]) -> int:
        """Adds tail rows below ``parents`` (tail rows or ``ROOT``); returns the first new tail row."""
        first, count = self.tail, len(parents)
        if count > self.room:
            raise OutOfBlocks(
                f"{count} rows do not fit: {self.length} of {len(self.slots)} slots, {first} tail rows in use"
            )
        for row, parent in enumerate(parents, first):
            if parent == ROOT:
                self.depths[row] = 0
                self.ancestors[row] = False
            else:
                self.depths[row] = self.depths[parent] + 1
                self.ancestors[row] = self.ancestors[parent]
            self.ancestors[row, row] = True
        self.tail += count
        return first

    def append_chain(self, count: int) -> int:
        """Adds a chain below the last committed row: a chunk of prefill. The tail must be empty."""
        if self.tail or count > len(self.slots) - self.length:
            raise OutOfBlocks(f"{count} prefill rows do not fit: {self.length} of {len(self.slots)} slots in use")
        self.tail = count
        return 0

    def path(self, row: int) -> Indices:
        """Slots of a tail row's ancestors and of itself, from the root down. Ancestors always come first."""
        return self.slots[self.num_computed_tokens + np.flatnonzero(self.ancestors[row, : row + 1])]

    def keep(self, rows: Seq[int], commit: int) -> None:
        """Keeps these tail rows, in this order, and drops the rest; the first ``commit`` of them become committed.

        The committed ones must be a path from the root; the others must come after their ancestors. K/V is copied only
        where a row does not already lie where it has to: with the best path first that is usually nowhere.
        """
        base = self.num_computed_tokens
        order = np.asarray(rows, np.int64)
        moved = np.flatnonzero(order != np.arange(len(order)))
        if len(moved):
            self._cache.move(self.slots[base + order[moved]], self.slots[base + moved])
        left = order[commit:]
        if len(left):
            self.depths[: len(left)] = self.depths[left] - commit
            self.ancestors[: len(left), : len(left)] = self.ancestors[np.ix_(left, left)]
            self.ancestors[: len(left), len(left) :] = False
        self.num_computed_tokens += commit
        self.tail = len(left)

    def truncate(self, length: int) -> None:
        """Forgets the tail and the committed rows from ``length`` on.

        A shared block is not written to again, so where ``length`` lies within one the whole block is forgotten.
        """
        size = self._cache.pool.block_size
        length = min(length, self.num_computed_tokens)
        if length < self._shared * size:
            whole = length // size
            self._cache.pool.release(self.block_table[whole:])
            self.block_table, self.slots = self.block_table[:whole], self.slots[: whole * size]
            self._shared, length = whole, whole * size
        self._keys.truncate(length // size)
        self.num_computed_tokens, self.tail = length, 0
