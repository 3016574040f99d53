"""Deterministic numerics of what is computed row by row: a row's bits must not depend on how many rows come with it.

Matrix libraries choose their kernels by shape, and some add up in another order for another number of rows. Which
numbers of rows give every row the bits that it gets alone is found out at load, on random rows; only those are used.
One row at a time is always among them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import torch

Tensor = torch.Tensor
CANDIDATES = (64, 48, 32, 24, *range(16, 1, -1))
LARGEST = max(CANDIDATES)


def agreeing_sizes(function: Callable[[Tensor], Tensor], rows: Tensor) -> tuple[int, ...]:
    """The candidate numbers of rows, largest first and ending with 1, with which ``function`` gives each of ``rows``
    the bits that it gives it alone, at whatever place in the tile it stands."""
    alone = torch.cat([function(rows[index : index + 1]) for index in range(len(rows))])

    def agrees(size: int) -> bool:
        together = torch.cat([function(rows[start : start + size]) for start in range(0, len(rows) - size + 1, size)])
        return torch.equal(together, alone[: len(together)])

    return (*(size for size in CANDIDATES if size <= len(rows) and agrees(size)), 1)


def tiles(rows: int, sizes: Sequence[int]) -> Iterator[slice]:
    """Cuts ``rows`` into tiles of the given sizes, the largest that fits first."""
    start = 0
    while start < rows:
        size = next(size for size in sizes if size <= rows - start)
        yield slice(start, start + size)
        start += size
