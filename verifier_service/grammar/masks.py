"""Masks of a step, computed while the device works on its rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

from verifier_service.grammar.matcher import Masks, Matcher


@dataclass(frozen=True)
class Constrained:
    """One session's rows of a step: the root and the nodes below it; ``parents`` are rows, row 0 the root."""

    matcher: Matcher
    token_ids: Sequence[int]
    parents: Sequence[int]


class MaskThread:
    """Works beside the thread of the device, which joins it before it decides."""

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1, "masks")

    def start(self, sessions: Mapping[str, Constrained]) -> Future[dict[str, Masks]]:
        """By session; nothing else may use their matchers until the future is done."""
        if sessions:
            return self._thread.submit(_compute, sessions)
        nothing = Future[dict[str, Masks]]()
        nothing.set_result({})
        return nothing


def _compute(sessions: Mapping[str, Constrained]) -> dict[str, Masks]:
    return {name: item.matcher.masks(item.token_ids, item.parents) for name, item in sessions.items()}
