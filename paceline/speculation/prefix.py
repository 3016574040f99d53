"""A running hash of a session's tokens: two sides that agree on it agree on every token before."""

from __future__ import annotations

from collections.abc import Iterable

from paceline.speculation.noise import mix64

EMPTY = 0x243F6A8885A308D3


def extend_hash(value: int, token_ids: Iterable[int]) -> int:
    """The hash of a prefix with hash ``value`` followed by ``token_ids``."""
    for token_id in token_ids:
        value = mix64(value ^ (token_id + 1))
    return value


def prefix_hash(token_ids: Iterable[int]) -> int:
    """The hash of ``token_ids`` from the start."""
    return extend_hash(EMPTY, token_ids)
