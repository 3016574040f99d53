"""Which rows of a batch look at which slots, laid out once per step and used in every layer.

Three layouts: ``One`` session on its own, several ``Padded`` into one call, and, for deterministic numerics, every row
``Alone`` with its own keys in the order of the text.
"""

from __future__ import annotations

from collections.abc import Sequence as Seq
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch

from paceline.engine import fused
from paceline.engine.cache import Indices, Sequence

Tensor = torch.Tensor
WIDE = 64
"""Sessions with more rows than this are attended on their own; others are padded into common calls."""
_MASKED = float("-inf")


class Attention(Protocol):
    """One part of a batch's attention."""

    def mix(self, queries: Tensor, kv: Tensor, mixed: Tensor) -> None:
        """Writes ``mixed`` ``[rows, heads * dim]`` where this part has rows.

        ``queries`` is ``[rows, heads, dim]``, ``kv`` one layer's cache ``[2, slots, kv_heads, dim]``.
        """


@dataclass(frozen=True)
class Piece:
    """One session's part of a batch: its rows start at ``start`` and are the last ``count`` of its tail.

    ``chain``: they are a chunk of prefill, each row below the one before it.
    """

    sequence: Sequence
    start: int
    count: int
    chain: bool

    @property
    def rows(self) -> slice:
        return slice(self.start, self.start + self.count)

    @property
    def keys(self) -> Indices:
        return self.sequence.slots[: self.sequence.length]

    def hidden(self) -> npt.NDArray[np.bool_] | None:
        """``[rows, keys]``, True where a row must not look; None: everything may be seen."""
        sequence, base = self.sequence, self.sequence.num_computed_tokens
        if self.chain:
            inner = ~np.tri(self.count, dtype=bool)
        else:
            inner = ~sequence.ancestors[sequence.tail - self.count : sequence.tail, : sequence.tail]
        if not inner.any():
            return None
        return np.concatenate([np.zeros((self.count, base), bool), inner], axis=1)


def lay_out(pieces: Seq[Piece], *, alone: bool, group: int, device: torch.device, dtype: torch.dtype) -> Seq[Attention]:
    """Attention of a batch. ``group`` is query heads per KV head; ``alone`` asks for deterministic numerics."""
    if alone:
        return [Alone.of(piece, device) for piece in pieces]
    narrow = [piece for piece in pieces if piece.count <= WIDE]
    calls: list[Attention] = [One.of(piece, group, device, dtype) for piece in pieces if piece.count > WIDE]
    for alike in _alike(narrow):
        if len(alike) == 1:
            calls.append(One.of(alike[0], group, device, dtype))
        else:
            calls.append(Padded.of(alike, group, device, dtype))
    return calls


def _alike(pieces: Seq[Piece]) -> Seq[list[Piece]]:
    """Groups in which numbers of rows and of keys differ by less than a factor of two, which bounds the padding."""
    groups: dict[tuple[int, int], list[Piece]] = {}
    for piece in pieces:
        size = (piece.count.bit_length(), max(piece.sequence.length, WIDE).bit_length())
        groups.setdefault(size, []).append(piece)
    return list(groups.values())


@dataclass(frozen=True)
class One:
    """A session's rows; its keys are a slice of the slots where its blocks lie side by side."""

    rows: slice
    keys: slice | Tensor
    bias: Tensor | None

    @classmethod
    def of(cls, piece: Piece, group: int, device: torch.device, dtype: torch.dtype) -> One:
        keys, hidden = piece.keys, piece.hidden()
        side_by_side = slice(int(keys[0]), int(keys[-1]) + 1)
        return cls(
            rows=piece.rows,
            keys=side_by_side if piece.sequence.contiguous else torch.from_numpy(keys).to(device),
            bias=None if hidden is None else _bias(hidden[None], group, device, dtype),
        )

    def mix(self, queries: Tensor, kv: Tensor, mixed: Tensor) -> None:
        keys, values = kv[:, None, self.keys] if isinstance(self.keys, slice) else _gather(kv, self.keys, 1)
        mixed[self.rows] = fused.attend(queries[None, self.rows], keys, values, self.bias)[0]


@dataclass(frozen=True)
class Padded:
    """Several sessions' rows and keys as flat indices, ``rows`` by ``keys`` of each session, padding included.

    Answers that are no padding stand at ``valid`` and go to ``targets``.
    """

    sessions: int
    rows: Tensor
    keys: Tensor
    valid: Tensor
    targets: Tensor
    bias: Tensor | None

    @classmethod
    def of(cls, pieces: Seq[Piece], group: int, device: torch.device, dtype: torch.dtype) -> Padded:
        queries, width = max(p.count for p in pieces), max(len(p.keys) for p in pieces)
        rows = np.zeros((len(pieces), queries), np.int64)
        valid = np.zeros((len(pieces), queries), bool)
        keys = np.zeros((len(pieces), width), np.int64)
        hidden = np.zeros((len(pieces), queries, width), bool)
        for index, piece in enumerate(pieces):
            own, seen = piece.keys, piece.hidden()
            rows[index, : piece.count] = np.arange(piece.start, piece.start + piece.count)
            valid[index, : piece.count] = True
            keys[index, : len(own)] = own
            keys[index, len(own) :] = own[0]  # of the session itself: what is hidden is still multiplied by zero
            hidden[index, :, len(own) :] = True
            if seen is not None:
                hidden[index, : piece.count, : len(own)] = seen
        return cls(
            sessions=len(pieces),
            rows=torch.from_numpy(rows.ravel()).to(device),
            keys=torch.from_numpy(keys.ravel()).to(device),
            valid=torch.from_numpy(np.flatnonzero(valid)).to(device),
            targets=torch.from_numpy(rows[valid]).to(device),
            bias=_bias(hidden, group, device, dtype) if hidden.any() else None,
        )

    def mix(self, queries: Tensor, kv: Tensor, mixed: Tensor) -> None:
        asked = queries.index_select(0, self.rows).view(self.sessions, -1, *queries.shape[1:])
        keys, values = _gather(kv, self.keys, self.sessions)
        answer = fused.attend(asked, keys, values, self.bias).flatten(0, 1)
        mixed.index_copy_(0, self.targets, answer.index_select(0, self.valid))


@dataclass(frozen=True)
class Alone:
    """Each row in a call of its own over its keys in the order of the text, gathered into one buffer.

    The call has the same shapes, strides and values whatever else is in the batch, wherever the blocks lie, and whether
    the row came in a tree, in a chunk or as a root; so it has the same bits.
    ``paths`` are slots to put into the buffer at ``offsets[row]`` before ``row`` asks for the first ``lengths[row]``
    keys; ``counts[row]`` of them belong to the row.
    """

    rows: slice
    committed: Tensor
    paths: Tensor
    counts: list[int]
    offsets: list[int]
    lengths: list[int]

    @classmethod
    def of(cls, piece: Piece, device: torch.device) -> Alone:
        sequence, base = piece.sequence, piece.sequence.num_computed_tokens
        first = sequence.tail - piece.count
        if piece.chain:
            paths = [sequence.slots[base + row : base + row + 1] for row in range(piece.count)]
            offsets = list(range(base, base + piece.count))
        else:
            paths = [sequence.path(row) for row in range(first, sequence.tail)]
            offsets = [base] * piece.count
        counts = [len(path) for path in paths]
        return cls(
            rows=piece.rows,
            committed=torch.from_numpy(sequence.slots[:base]).to(device),
            paths=torch.from_numpy(np.concatenate(paths)).to(device),
            counts=counts,
            offsets=offsets,
            lengths=[offset + count for offset, count in zip(offsets, counts, strict=True)],
        )

    def mix(self, queries: Tensor, kv: Tensor, mixed: Tensor) -> None:
        mixed[self.rows] = fused.attend_alone(
            queries[self.rows], kv[0], kv[1], self.committed, self.paths, self.counts, self.offsets, self.lengths
        )


def _gather(kv: Tensor, keys: Tensor, sessions: int) -> tuple[Tensor, Tensor]:
    """K and V at these slots, ``[sessions, keys, kv_heads, dim]`` each; four times as fast as indexing ``kv`` is."""
    shape = (sessions, -1, *kv.shape[2:])
    return kv[0].index_select(0, keys).view(shape), kv[1].index_select(0, keys).view(shape)


def _bias(hidden: npt.NDArray[np.bool_], group: int, device: torch.device, dtype: torch.dtype) -> Tensor:
    """``[sessions, 1, queries * group, keys]``: the heads of a group stand beside their row."""
    spread = torch.from_numpy(np.repeat(hidden, group, axis=1)).to(device)
    return torch.zeros(spread.shape, device=device, dtype=dtype).masked_fill_(spread, _MASKED)[:, None]
