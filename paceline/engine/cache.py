"""The block KV cache: a pool of blocks, and the part of it that one session's tokens and tree live in.

A sequence's rows lie in logical order::

    | 0 ............ committed | tail: speculative rows, in the order they were computed |

Committed rows hold K/V of the text itself and are attended by everything. A tail row attends to all committed rows,
to its ancestors in the tail and to itself. ``keep`` is the only operation that turns tail rows into committed ones.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence as Seq

import numpy as np
import numpy.typing as npt
import torch

from paceline.engine.config import ModelConfig
from paceline.errors import OutOfBlocks

BLOCK_SIZE = 16
ROOT = -1
"""As a parent: the last committed row."""

Indices = npt.NDArray[np.int64]


class BlockPool:
    """Hands out blocks of ``block_size`` slots; the lowest free ones first, so that runs tend to stay together."""

    def __init__(self, num_blocks: int, block_size: int = BLOCK_SIZE) -> None:
        self.num_blocks, self.block_size = num_blocks, block_size
        self._free = list(range(num_blocks))

    @property
    def free(self) -> int:
        return len(self._free)

    def allocate(self, count: int) -> list[int]:
        """``count`` block numbers in rising order; raises ``OutOfBlocks`` and takes none when there are fewer."""
        if count > len(self._free):
            raise OutOfBlocks(f"{count} KV blocks asked for, {len(self._free)} of {self.num_blocks} free")
        return [heapq.heappop(self._free) for _ in range(count)]

    def release(self, blocks: Seq[int]) -> None:
        for block in blocks:
            heapq.heappush(self._free, block)


class KVCache:
    """K and V of all layers: ``[layers, 2, slots, kv_heads, head_dim]``."""

    def __init__(self, config: ModelConfig, num_blocks: int, device: torch.device, dtype: torch.dtype) -> None:
        self.pool = BlockPool(num_blocks)
        slots = num_blocks * self.pool.block_size
        shape = (config.layers, 2, slots, config.kv_heads, config.head_dim)
        self.data = torch.zeros(shape, device=device, dtype=dtype)  # zeros: masked rows are multiplied, so never NaN

    def move(self, sources: Indices, targets: Indices) -> None:
        """Copies rows between slots; the two sets may overlap."""
        device = self.data.device
        rows = self.data[:, :, torch.from_numpy(sources).to(device)]
        self.data[:, :, torch.from_numpy(targets).to(device)] = rows


class Sequence:
    """One session's rows in the cache. Blocks are taken by ``reserve`` and given back by ``close``."""

    def __init__(self, cache: KVCache, capacity: int, max_tail: int) -> None:
        self._cache = cache
        self.block_table: list[int] = []
        self.slots: Indices = np.zeros(0, np.int64)
        self.contiguous = True
        self.reserve(capacity)
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

    def reserve(self, capacity: int) -> None:
        """Makes room for ``capacity`` rows; raises ``OutOfBlocks`` when the pool has not enough blocks."""
        pool = self._cache.pool
        missing = -(-capacity // pool.block_size) - len(self.block_table)
        if missing <= 0:
            return
        self.block_table += pool.allocate(missing)
        offsets = np.arange(pool.block_size, dtype=np.int64)
        self.slots = (np.array(self.block_table, np.int64)[:, None] * pool.block_size + offsets).ravel()
        self.contiguous = bool((np.diff(self.slots) == 1).all())

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
        """Forgets the tail and all committed rows from ``length`` on."""
        self.num_computed_tokens, self.tail = min(length, self.num_computed_tokens), 0

    def close(self) -> None:
        """Gives the blocks back; further calls do nothing."""
        self._cache.pool.release(self.block_table)
        self.block_table = []
