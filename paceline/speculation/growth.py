"""Where a drafter's tree grows next: plain functions, run alike by drafters and simulator.

The order is DySpec's (arXiv 2410.11744), the floor SpecDec++'s (arXiv 2405.19715). A node has been expanded once it has
a row.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence

from paceline.speculation.policy import Mode
from paceline.speculation.tree import DraftTree, Node

EXPANSIONS = 8
"""Nodes expanded per forward; a forward of eight rows costs little more than one of one."""
FLOOR = math.log(0.01)
"""Paths less likely than this are not followed."""
LOCKSTEP_FLOOR = math.log(0.3)
"""In lockstep every forward delays the verdict, so a round ends when the best path left is less likely than this."""

Ranked = tuple[float, Node]


def frontier(tree: DraftTree, mode: Mode, deepest: int) -> Iterator[Ranked]:
    """Nodes above position ``deepest`` that may be expanded, best first, with their path log-probabilities."""
    floor, root = LOCKSTEP_FLOOR if mode is Mode.LOCKSTEP else FLOOR, tree.root
    for score, node in tree.best_first():
        if score < floor:
            return
        parent = node.parent
        if node.row < 0 and node.position < deepest and (parent is root or (parent and parent.row >= 0)):
            yield score, node


def expand_next(frontiers: Sequence[Iterable[Ranked]]) -> dict[int, list[Node]]:
    """Which nodes a forward expands, by the index of their frontier: the best of all of them."""
    ranked: list[tuple[float, int, Node]] = []
    for index, nodes in enumerate(frontiers):
        for (score, node), _ in zip(nodes, range(EXPANSIONS), strict=False):
            ranked.append((-score, index, node))
    ranked.sort(key=lambda item: item[0])
    chosen: dict[int, list[Node]] = {}
    for _, index, node in ranked[: max(EXPANSIONS, len(frontiers))]:
        chosen.setdefault(index, []).append(node)
    return chosen
