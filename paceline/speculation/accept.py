"""Verification: walk down the tree for as long as a child carries the target's own choice.

Because the target's choice ``y`` is fixed by prefix and seed before anyone guesses (DESIGN §1.1), there is nothing to
accept with a probability: a path is right as far as it spells what the target says anyway.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import NamedTuple

from paceline.speculation.logprobs import TokenLogprobs


class NextToken(Enum):
    """Where the last token of a verdict came from."""

    BONUS = "bonus"
    """The accepted path ended at a leaf."""
    RECOVERED = "recovered"
    """There were children, but none of them matched."""


class NodeCandidates(NamedTuple):
    """A verified node beside the text: its token, and the target's best tokens after it, best first."""

    token_id: int
    best: tuple[int, ...]


@dataclass(frozen=True)
class Decision:
    """Which rows of a step hold, and what the session emits: the accepted path and then the target's next token."""

    accepted_rows: tuple[int, ...]
    token_ids: tuple[int, ...]
    next_token: NextToken
    stopped: bool
    """The last token is a stop token."""
    logprobs: tuple[TokenLogprobs, ...] = ()
    """Where asked for: of each token emitted."""
    candidates: tuple[tuple[int, ...], ...] = ()
    """Where asked for: the target's best tokens at the position of each token emitted, best first."""
    beside: tuple[NodeCandidates, ...] = ()
    """Where asked for: the same of verified nodes that were not accepted, the least likely first."""


def walk(
    token_ids: Sequence[int], parents: Sequence[int], choice: Callable[[int], int], stop: Collection[int], limit: int
) -> Decision:
    """Decides one session's step.

    Row 0 is the root; ``parents[i]`` is the row of row ``i``'s parent, always before it. ``choice(i)`` is what the
    target says after row ``i``; it is asked only along the accepted path. At most ``limit`` (>= 1) tokens are emitted,
    none after one of ``stop``.
    """
    children = {(parents[row], token_ids[row]): row for row in range(len(token_ids) - 1, 0, -1)}
    inner = set(parents[1:])
    accepted: list[int] = []
    emitted: list[int] = []
    row = 0
    while True:
        chosen = choice(row)
        emitted.append(chosen)
        child = children.get((row, chosen))
        if chosen in stop or len(emitted) == limit or child is None:
            kind = NextToken.RECOVERED if row in inner and child is None else NextToken.BONUS
            return Decision(tuple(accepted), tuple(emitted), kind, chosen in stop)
        accepted.append(child)
        row = child
