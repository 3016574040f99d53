"""Which nodes a step verifies, over all its sessions: the likeliest paths, as many as pay."""

from __future__ import annotations

import heapq
import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from paceline.speculation.tree import DraftTree, Node, Selection


@dataclass(frozen=True)
class Candidate:
    """A session's tree, and how much of it may be taken."""

    tree: DraftTree
    budget: int
    max_depth: int


def select_alone(candidate: Candidate) -> Selection:
    """The best nodes of one tree up to its budget, whether they pay or not."""
    best = candidate.tree.best(candidate.budget, candidate.max_depth)
    return candidate.tree.in_rows({node: score for score, node in best})


def select_across(
    candidates: Sequence[Candidate], most: int, how_many_pay: Callable[[Sequence[float]], int]
) -> list[Selection]:
    """One selection per candidate, at most ``most`` nodes in all, the likeliest of any tree first.

    ``how_many_pay`` is given the falling probabilities of acceptance and says how many of them to take. A node is
    never likelier than its parent, so that what is taken hangs together.
    """
    merged = heapq.merge(*(_ranked(index, candidate) for index, candidate in enumerate(candidates)), key=_cost)
    ranked = list(itertools.islice(merged, max(0, most)))
    chosen: list[dict[Node, float]] = [{} for _ in candidates]
    for score, index, node in ranked[: how_many_pay([math.exp(score) for score, _, _ in ranked])]:
        chosen[index][node] = score
    return [candidate.tree.in_rows(nodes) for candidate, nodes in zip(candidates, chosen, strict=True)]


def _ranked(index: int, candidate: Candidate) -> Iterator[tuple[float, int, Node]]:
    for score, node in candidate.tree.best(candidate.budget, candidate.max_depth):
        yield score, index, node


def _cost(item: tuple[float, int, Node]) -> float:
    return -item[0]
