"""Draft trees: candidate continuations of the last committed token, merged by token path.

Positions are absolute, so a node keeps its place when the root moves below it. A node is *live* under the root,
*committed* once its token is part of the text, or *dead* when the text went another way; nothing ever revives it.
"""

from __future__ import annotations

import heapq
import itertools
import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import Enum


class State(Enum):
    LIVE = "live"
    COMMITTED = "committed"
    DEAD = "dead"


class Node:
    """One candidate token. ``log_score`` estimates log P(accepted | parent accepted)."""

    __slots__ = (
        "children", "log_score", "node_id", "owner", "parent", "position", "post_verify", "row", "sources", "state",
        "token_id",
    )  # fmt: skip

    def __init__(self, token_id: int, position: int, parent: Node | None, log_score: float, state: State) -> None:
        self.token_id = token_id
        self.position = position
        self.parent = parent
        self.log_score = log_score
        self.state = state
        self.children: dict[int, Node] = {}
        self.sources: dict[str, float] = {}
        """Who proposed it, and what each of them said of it: log P(accepted | parent accepted)."""
        self.owner = ""
        self.post_verify = False
        """Verifier: it came while a step of its session was in flight."""
        self.node_id = 0
        """Drafter: its id on the wire; verifier: its id in the timeline; 0 before it has one."""
        self.row = -1
        """Drafter: its tail row in the KV cache; -1 before it is expanded."""

    def path(self) -> list[int]:
        """The tokens from below the root down to this live node; empty for the root."""
        tokens: list[int] = []
        node = self
        while node.parent is not None:
            tokens.append(node.token_id)
            node = node.parent
        return tokens[::-1]


@dataclass(frozen=True)
class Selection:
    """The nodes of one step in depth-first order, the likeliest child first; ``parents`` are rows, row 0 the root.

    ``path_scores`` are the estimates of log P(the whole path down to the node is accepted).
    """

    nodes: tuple[Node, ...]
    parents: tuple[int, ...]
    path_scores: tuple[float, ...]

    @property
    def token_ids(self) -> tuple[int, ...]:
        return tuple(node.token_id for node in self.nodes)


class DraftTree:
    """The live candidates under one session's root."""

    def __init__(self, root_token_id: int, root_position: int) -> None:
        self.root = Node(root_token_id, root_position, None, 0.0, State.COMMITTED)
        self.size = 0
        """Live nodes."""
        self.owned: Counter[str] = Counter()
        """Live nodes by the source that proposed them first."""

    def add(
        self, parent: Node, token_id: int, log_score: float, source: str = "", said: float | None = None
    ) -> tuple[Node, bool]:
        """The child of ``parent`` with this token, and whether it is new; a known one takes the larger estimate.

        ``said`` is the source's own estimate where ``log_score`` is a corrected one.
        """
        said = log_score if said is None else said
        node = parent.children.get(token_id)
        if node is not None:
            node.log_score = max(node.log_score, log_score)
            node.sources[source] = said
            return node, False
        node = Node(token_id, parent.position + 1, parent, log_score, State.LIVE)
        node.sources[source] = said
        node.owner = source
        parent.children[token_id] = node
        self.size += 1
        self.owned[source] += 1
        return node, True

    def advance(self, token_ids: Sequence[int]) -> list[Node]:
        """Moves the root down the committed ``token_ids``; what lies beside them dies. Returns the nodes committed."""
        committed: list[Node] = []
        for token_id in token_ids:
            heir = self.root.children.pop(token_id, None)
            for sibling in self.root.children.values():
                self._kill(sibling)
            if heir is None:
                heir = Node(token_id, self.root.position + 1, None, 0.0, State.COMMITTED)
            else:
                self._count(heir, -1)
                committed.append(heir)
            heir.state, heir.parent, heir.log_score = State.COMMITTED, None, 0.0
            self.root.children = {}
            self.root = heir
        return committed

    def drop(self, node: Node) -> None:
        """Kills a live node and all below it."""
        if node.parent is not None:
            del node.parent.children[node.token_id]
            self._kill(node)

    def clear(self) -> None:
        """Kills every live node."""
        for child in self.root.children.values():
            self._kill(child)
        self.root.children = {}

    def _kill(self, node: Node) -> None:
        stack, owned = [node], self.owned
        while stack:
            dead = stack.pop()
            dead.state = State.DEAD
            dead.parent = None
            if dead.children:
                stack.extend(dead.children.values())
                dead.children = {}
            self.size -= 1
            owned[dead.owner] -= 1

    def _count(self, node: Node, change: int) -> None:
        self.size += change
        self.owned[node.owner] += change

    def live(self) -> Iterator[Node]:
        """All live nodes, parents before children."""
        stack = list(self.root.children.values())
        while stack:
            node = stack.pop()
            yield node
            stack.extend(node.children.values())

    def best_first(self) -> Iterator[tuple[float, Node]]:
        """Live nodes by falling path log-probability (DySpec's greedy order, arXiv 2410.11744)."""
        order = itertools.count()  # where scores and tokens are equal: nothing that differs from run to run
        heap = [(-score, child.token_id, next(order), child) for score, child in _siblings(self.root)]
        heapq.heapify(heap)
        while heap:
            cost, _, _, node = heapq.heappop(heap)
            yield -cost, node
            if node.children:
                for score, child in _siblings(node):
                    heapq.heappush(heap, (cost - score, child.token_id, next(order), child))

    def expected(self, budget: int) -> float:
        """Expected accepted tokens of the best ``budget`` nodes."""
        return sum(math.exp(score) for score, _ in itertools.islice(self.best_first(), budget))

    def expected_gain(self, nodes: Sequence[Node], budget: int) -> float:
        """Expected accepted tokens that ``nodes`` bring, as far as they are among the best ``budget`` of the tree."""
        fresh, gain = set(nodes), 0.0
        for rank, (score, node) in enumerate(self.best_first()):
            if rank >= budget:
                break
            if node in fresh:
                gain += math.exp(score)
        return gain

    def best(self, budget: int, max_depth: int) -> Iterator[tuple[float, Node]]:
        """The best ``budget`` nodes down to ``max_depth`` levels, by falling path log-probability."""
        last_position = self.root.position + max_depth
        shallow = (item for item in self.best_first() if item[1].position <= last_position)
        return itertools.islice(shallow, max(0, budget))

    def in_rows(self, chosen: dict[Node, float]) -> Selection:
        """Nodes with their path scores as the rows of a step; with a node its ancestors must be among them."""
        nodes: list[Node] = []
        parents: list[int] = []
        stack = [(child, 0) for child in _worst_first(self.root, chosen)]
        while stack:
            node, parent_row = stack.pop()
            nodes.append(node)
            parents.append(parent_row)
            stack.extend((child, len(nodes)) for child in _worst_first(node, chosen))
        return Selection(tuple(nodes), tuple(parents), tuple(chosen[node] for node in nodes))


def _siblings(parent: Node) -> list[tuple[float, Node]]:
    """Children and log P(accepted | parent accepted).

    Only one of them can be: where the estimates of several sources add up to more than 1 all are lowered alike.
    """
    children = parent.children.values()
    total = 0.0
    for child in children:
        total += math.exp(child.log_score)
    excess = math.log(total) if total > 1 else 0.0
    return [(child.log_score - excess, child) for child in children]


def _worst_first(node: Node, chosen: dict[Node, float]) -> list[Node]:
    found = [child for child in node.children.values() if child in chosen]
    return sorted(found, key=chosen.__getitem__) if len(found) > 1 else found
