"""Measures of text."""

from __future__ import annotations

from collections.abc import Sequence


def repeated_ngrams(token_ids: Sequence[int], length: int = 8) -> float:
    """Share of the n-grams that have occurred before in the same text."""
    ngrams = [tuple(token_ids[start : start + length]) for start in range(len(token_ids) - length + 1)]
    return 1 - len(set(ngrams)) / len(ngrams) if ngrams else 0.0
