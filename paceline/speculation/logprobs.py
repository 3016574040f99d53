"""Log-probabilities that clients ask for: of the raw logits, before any warping (DESIGN §5)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True)
class TokenLogprobs:
    """Of one emitted token; ``top`` are the likeliest tokens of its position, best first."""

    logprob: float
    top: tuple[tuple[int, float], ...] = ()


def token_logprobs(logits: npt.NDArray[np.float32], token_ids: Sequence[int], count: int) -> tuple[TokenLogprobs, ...]:
    """Of each token under its row of ``[tokens, vocabulary]``, with the ``count`` likeliest; ties to the lowest id."""
    rows = logits.astype(np.float64)
    largest = rows.max(axis=-1, keepdims=True)
    rows -= largest + np.log(np.exp(rows - largest).sum(axis=-1, keepdims=True))
    return tuple(
        TokenLogprobs(float(row[token_id]), _top(row, count)) for row, token_id in zip(rows, token_ids, strict=True)
    )


def _top(row: npt.NDArray[np.float64], count: int) -> tuple[tuple[int, float], ...]:
    if not count:
        return ()
    count = min(count, len(row))
    least = np.partition(row, -count)[-count]
    among = np.flatnonzero(row >= least)
    best = among[np.argsort(-row[among], kind="stable")][:count]
    return tuple(zip(best.tolist(), row[best].tolist(), strict=True))
