"""Who holds which block of the KV cache, and which blocks can be found again by what they hold.

A block is *free*, *held* (by one session or by several that share a prefix), or *idle*: held by nobody, but found again
by its key until room is needed; then the one that was idle longest goes first. free + idle + held = total, always.
"""

from __future__ import annotations

import hashlib
import heapq
from collections import OrderedDict
from collections.abc import Sequence as Seq

import numpy as np

from paceline.errors import OutOfBlocks

BLOCK_SIZE = 16


class PrefixKeys:
    """Keys of the whole blocks of one text: a hash chain, so that a key stands for everything before it, too.

    The chain begins with the scope, so that texts of different scopes never share a block.
    """

    def __init__(self, scope: str = "", block_size: int = BLOCK_SIZE) -> None:
        self._block_size = block_size
        self._chain = [_digest(b"paceline blocks 1", scope.encode())]

    def cover(self, token_ids: Seq[int]) -> list[bytes]:
        """Keys of the whole blocks of ``token_ids``, which go on from what was covered before."""
        whole = len(token_ids) // self._block_size
        for index in range(len(self._chain) - 1, whole):
            block = token_ids[index * self._block_size : (index + 1) * self._block_size]
            self._chain.append(_digest(self._chain[-1], np.asarray(block, "<u4").tobytes()))
        return self._chain[1 : whole + 1]

    def truncate(self, blocks: int) -> None:
        """Forgets the keys after the first ``blocks``: the text has changed there."""
        del self._chain[blocks + 1 :]


def _digest(before: bytes, content: bytes) -> bytes:
    return hashlib.blake2b(before + content, digest_size=16).digest()


class BlockPool:
    """Hands out blocks of ``block_size`` slots; the lowest free ones first, so that runs tend to stay together."""

    def __init__(self, num_blocks: int, block_size: int = BLOCK_SIZE) -> None:
        self.num_blocks, self.block_size = num_blocks, block_size
        self._free = list(range(num_blocks))
        self._holders = [0] * num_blocks
        self._keys: list[bytes | None] = [None] * num_blocks
        self._published: dict[bytes, int] = {}
        self._idle: OrderedDict[int, None] = OrderedDict()

    @property
    def free(self) -> int:
        """Blocks that can be had: free ones and idle ones."""
        return len(self._free) + len(self._idle)

    def allocate(self, count: int) -> list[int]:
        """``count`` block numbers in rising order; raises ``OutOfBlocks`` and takes none when there are fewer."""
        if count > self.free:
            raise OutOfBlocks(f"{count} KV blocks asked for, {self.free} of {self.num_blocks} free")
        while len(self._free) < count:
            self._evict()
        blocks = [heapq.heappop(self._free) for _ in range(count)]
        for block in blocks:
            self._holders[block] = 1
        return blocks

    def release(self, blocks: Seq[int]) -> None:
        """Gives up one hold on each, the last first: what lies deepest in a text is evicted before what it needs."""
        for block in reversed(blocks):
            self._holders[block] -= 1
            if self._holders[block]:
                continue
            if self._keys[block] is None:
                heapq.heappush(self._free, block)
            else:
                self._idle[block] = None

    def publish(self, block: int, key: bytes) -> None:
        """Lets others find a held block that will not be written to any more; the first of equal ones is found."""
        if key not in self._published and self._keys[block] is None:
            self._published[key], self._keys[block] = block, key

    def find(self, keys: Seq[bytes]) -> list[int]:
        """Blocks of the longest known prefix of a chain of keys; the caller holds them from now on."""
        found: list[int] = []
        for key in keys:
            block = self._published.get(key)
            if block is None:
                break
            self._holders[block] += 1
            self._idle.pop(block, None)
            found.append(block)
        return found

    def _evict(self) -> None:
        block, _ = self._idle.popitem(last=False)
        key = self._keys[block]
        assert key is not None, "only published blocks are idle"
        del self._published[key]
        self._keys[block] = None
        heapq.heappush(self._free, block)
