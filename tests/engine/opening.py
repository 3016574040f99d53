"""Sequences with room, as tests of the engine want them."""

from __future__ import annotations

from paceline.engine.cache import Sequence
from paceline.engine.runner import ModelRunner


def opened(runner: ModelRunner, capacity: int, max_tail: int) -> Sequence:
    """A sequence with room for ``capacity`` rows."""
    sequence = runner.open(max_tail)
    sequence.reserve(capacity)
    return sequence
