"""From sessions and their new rows to the tensors of one forward; everything here is built once per step."""

from __future__ import annotations

from collections.abc import Sequence as Seq
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from paceline.engine.attention import Attention, Piece, lay_out
from paceline.engine.cache import Indices, Sequence


@dataclass(frozen=True)
class Rows:
    """New rows of one session. ``parents`` None is a chunk of prefill: a chain of which only the last row is asked for.

    Otherwise each parent is a tail row of the sequence, an earlier new one included, or ``cache.ROOT``.
    """

    sequence: Sequence
    token_ids: Seq[int]
    parents: Seq[int] | None = None


@dataclass(frozen=True)
class Batch:
    """Input of one forward: ``[rows]`` tensors, and the rows whose logits are wanted (None: all)."""

    token_ids: torch.Tensor
    positions: torch.Tensor
    slots: torch.Tensor
    attention: Seq[Attention]
    logit_rows: torch.Tensor | None


def build_batch(groups: Seq[Rows], *, alone: bool, group: int, device: torch.device, dtype: torch.dtype) -> Batch:
    """Appends the rows to their sequences and lays out the forward; ``alone`` and ``group`` as in ``lay_out``."""
    tokens: list[int] = []
    positions: list[Indices] = []
    slots: list[Indices] = []
    pieces: list[Piece] = []
    wanted: list[int] = []
    for rows in groups:
        sequence, count, start = rows.sequence, len(rows.token_ids), len(tokens)
        tokens.extend(rows.token_ids)
        base = sequence.num_computed_tokens
        if rows.parents is None:
            first = sequence.append_chain(count)
            positions.append(np.arange(base, base + count))
            wanted.append(start + count - 1)
        else:
            first = sequence.append(rows.parents)
            positions.append(base + sequence.depths[first : first + count])
            wanted.extend(range(start, start + count))
        slots.append(sequence.slots[base + first : base + first + count])
        pieces.append(Piece(sequence, start, count, chain=rows.parents is None))

    def tensor(array: npt.NDArray[np.generic] | list[int]) -> torch.Tensor:
        return torch.as_tensor(np.asarray(array), device=device)

    return Batch(
        token_ids=tensor(np.array(tokens, np.int64)),
        positions=tensor(np.concatenate(positions)),
        slots=tensor(np.concatenate(slots)),
        attention=lay_out(pieces, alone=alone, group=group, device=device, dtype=dtype),
        logit_rows=None if len(wanted) == len(tokens) else tensor(np.array(wanted, np.int64)),
    )
