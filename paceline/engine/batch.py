"""From sessions and their new rows to the tensors of one forward; everything here is built once per step."""

from __future__ import annotations

from collections.abc import Sequence as Seq
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from paceline.engine.cache import Indices, Sequence

WIDE = 64
"""Groups of rows above this are attended on their own; smaller ones are padded into one batch."""
_MASKED = float("-inf")


@dataclass(frozen=True)
class Rows:
    """New rows of one session. ``parents`` None is a chunk of prefill: a chain of which only the last row is asked for.

    Otherwise each parent is a tail row of the sequence, an earlier new one included, or ``cache.ROOT``.
    """

    sequence: Sequence
    token_ids: Seq[int]
    parents: Seq[int] | None = None


@dataclass(frozen=True)
class Attention:
    """One batched attention call: which rows ask, which slots they look at, and what is hidden from them.

    ``rows`` is a slice of the batch, or indices ``[sessions, queries]`` with ``valid`` marking the padding. ``keys`` is
    a slice of slots or indices ``[sessions, keys]``. ``bias`` is ``[sessions, 1, queries * group, keys]`` or None.
    """

    rows: slice | torch.Tensor
    valid: torch.Tensor | None
    keys: slice | torch.Tensor
    bias: torch.Tensor | None


@dataclass(frozen=True)
class Batch:
    """Input of one forward: ``[rows]`` tensors, and the rows whose logits are wanted (None: all)."""

    token_ids: torch.Tensor
    positions: torch.Tensor
    slots: torch.Tensor
    attention: tuple[Attention, ...]
    logit_rows: torch.Tensor | None


@dataclass(frozen=True)
class _Piece:
    """One session's part of a batch: its rows start at ``start``; ``hidden`` is ``[rows, keys]``."""

    start: int
    count: int
    keys: Indices
    hidden: npt.NDArray[np.bool_] | None
    contiguous: bool


def build_batch(groups: Seq[Rows], *, group_size: int, device: torch.device, dtype: torch.dtype) -> Batch:
    """Appends the rows to their sequences and lays out the forward. ``group_size`` is query heads per KV head."""
    tokens: list[int] = []
    positions: list[Indices] = []
    slots: list[Indices] = []
    pieces: list[_Piece] = []
    wanted: list[int] = []
    for group in groups:
        sequence, count, start = group.sequence, len(group.token_ids), len(tokens)
        tokens.extend(group.token_ids)
        base = sequence.num_computed_tokens
        if group.parents is None:
            first = sequence.append_chain(count)
            positions.append(np.arange(base, base + count))
            hidden = _chain_hidden(base, count)
            wanted.append(start + count - 1)
        else:
            first = sequence.append(group.parents)
            positions.append(base + sequence.depths[first : first + count])
            hidden = _tree_hidden(sequence, first)
            wanted.extend(range(start, start + count))
        slots.append(sequence.slots[base + first : base + first + count])
        keys = sequence.slots[: sequence.length]
        pieces.append(_Piece(start, count, keys, hidden, sequence.contiguous))

    def tensor(array: npt.NDArray[np.generic] | list[int]) -> torch.Tensor:
        return torch.as_tensor(np.asarray(array), device=device)

    return Batch(
        token_ids=tensor(np.array(tokens, np.int64)),
        positions=tensor(np.concatenate(positions)),
        slots=tensor(np.concatenate(slots)),
        attention=_attention(pieces, group_size, device, dtype),
        logit_rows=None if len(wanted) == len(tokens) else tensor(np.array(wanted, np.int64)),
    )


def _chain_hidden(base: int, count: int) -> npt.NDArray[np.bool_] | None:
    if count == 1:
        return None
    return np.concatenate([np.zeros((count, base), bool), ~np.tri(count, dtype=bool)], axis=1)


def _tree_hidden(sequence: Sequence, first: int) -> npt.NDArray[np.bool_] | None:
    seen = sequence.ancestors[first : sequence.tail, : sequence.tail]
    if seen.all():
        return None
    committed = np.zeros((len(seen), sequence.num_computed_tokens), bool)
    return np.concatenate([committed, ~seen], axis=1)


def _attention(pieces: Seq[_Piece], group_size: int, device: torch.device, dtype: torch.dtype) -> tuple[Attention, ...]:
    narrow = [piece for piece in pieces if piece.count <= WIDE]
    alone = [piece for piece in pieces if piece.count > WIDE]
    if len(narrow) == 1:
        alone, narrow = [*alone, *narrow], []
    calls = [_single(piece, group_size, device, dtype) for piece in alone]
    if narrow:
        calls.append(_padded(narrow, group_size, device, dtype))
    return tuple(calls)


def _single(piece: _Piece, group_size: int, device: torch.device, dtype: torch.dtype) -> Attention:
    keys: slice | torch.Tensor
    if piece.contiguous:
        keys = slice(int(piece.keys[0]), int(piece.keys[-1]) + 1)
    else:
        keys = torch.from_numpy(piece.keys).to(device)[None]
    bias = None if piece.hidden is None else _bias(piece.hidden[None], group_size, device, dtype)
    return Attention(slice(piece.start, piece.start + piece.count), None, keys, bias)


def _padded(pieces: Seq[_Piece], group_size: int, device: torch.device, dtype: torch.dtype) -> Attention:
    queries, width = max(p.count for p in pieces), max(len(p.keys) for p in pieces)
    rows = np.zeros((len(pieces), queries), np.int64)
    valid = np.zeros((len(pieces), queries), bool)
    keys = np.zeros((len(pieces), width), np.int64)
    hidden = np.zeros((len(pieces), queries, width), bool)
    for index, piece in enumerate(pieces):
        rows[index, : piece.count] = np.arange(piece.start, piece.start + piece.count)
        valid[index, : piece.count] = True
        keys[index, : len(piece.keys)] = piece.keys
        hidden[index, :, len(piece.keys) :] = True
        if piece.hidden is not None:
            hidden[index, : piece.count, : len(piece.keys)] = piece.hidden
    return Attention(
        rows=torch.from_numpy(rows).to(device),
        valid=torch.from_numpy(valid).to(device),
        keys=torch.from_numpy(keys).to(device),
        bias=_bias(hidden, group_size, device, dtype) if hidden.any() else None,
    )


def _bias(hidden: npt.NDArray[np.bool_], group_size: int, device: torch.device, dtype: torch.dtype) -> torch.Tensor:
    """``[sessions, 1, queries * group_size, keys]``: the heads of a group stand beside their row."""
    spread = torch.from_numpy(np.repeat(hidden, group_size, axis=1)).to(device)
    return torch.zeros(spread.shape, device=device, dtype=dtype).masked_fill_(spread, _MASKED)[:, None]
