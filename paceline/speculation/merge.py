"""Merging what a drafter sends into a session's tree, whatever was committed in the meantime.

Every node is resolved against the text as it stands *now* (DESIGN §4): on the committed path it is absorbed and stays
a valid parent; beside it, it is stale together with all its descendants. So a race costs nothing but the late node.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from paceline.speculation.estimate import Calibration
from paceline.speculation.fields import FieldError, require
from paceline.speculation.tree import DraftTree, Node, State

MAX_DEPTH = 64
MAX_LIVE_NODES = 1024
MAX_LIVE_NODES_PER_SOURCE = 512
"""So that no drafter can keep the others out."""
MAX_NODES_PER_SESSION = 256
MAX_NODES_PER_MESSAGE = 4096
MAX_ENTRIES = 1024
"""Entries of one kind in a message; more is malformed framing and ends the stream."""
CREDIT = 512
"""Nodes that a drafter may be ahead of what the verifier has seen of it."""
MIN_LOG_SCORE = -50.0
SUREST = -0.01
"""Nobody is surer of a token than that, whatever they say."""
_KEEP_REFERENCES = 2048
_EVIDENCE = 16
"""Ancestors that speak for a node, at most."""


@dataclass(frozen=True)
class NodeColumns:
    """New nodes of one session, as on the wire. Node ``i`` has id ``first_node_id + i``; parent 0 is the root."""

    first_node_id: int
    root_position: int
    token_ids: npt.NDArray[np.uint32]
    parent_ids: npt.NDArray[np.uint64]
    log_scores: npt.NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.token_ids)


@dataclass
class DraftSource:
    """What a verifier remembers of one drafter in one session."""

    drafter_id: str
    incarnation: int = 0
    last_node_id: int = 0
    steps: int = 0
    proposed: int = 0
    stale: int = 0
    rejected: int = 0
    """Entries that were malformed."""
    verified: int = 0
    accepted: int = 0
    uniquely_accepted: int = 0
    busy_seconds: float = 0.0
    """What its growths took, as it says."""
    tested: int = 0
    """Nodes of it whose parent was accepted,"""
    promised: float = 0.0
    """and how many of these should have been, by what it said of them."""
    granted: int = CREDIT
    """Highest node id that it was ever told it may send; what is on its way when credit is taken back is no fault."""
    references: dict[int, Node] = field(default_factory=dict)

    def node_limit(self, *, credit: bool) -> int:
        """Highest node id that may be sent; absolute, so that a lost or repeated grant is harmless.

        Without credit it is the last one that has come: the drafter is to stop.
        """
        limit = self.last_node_id + (CREDIT if credit else 0)
        self.granted = max(self.granted, limit)
        return limit

    def restart(self, incarnation: int) -> None:
        """A new incarnation counts its nodes from 1 again."""
        self.incarnation, self.last_node_id, self.granted = incarnation, 0, CREDIT
        self.references.clear()


class Estimate(NamedTuple):
    """A drafter's log P(accepted | parent accepted), and what its record makes of that."""

    said: float
    trust: float

    @property
    def corrected(self) -> float:
        return min(self.said + self.trust, SUREST)


def check_columns(columns: NodeColumns, source: DraftSource, root_position: int, vocabulary_size: int) -> None:
    """Raises ``FieldError`` for columns that no honest drafter sends."""
    count = len(columns)
    require(
        len(columns.parent_ids) == count, "parent_ids", len(columns.parent_ids), f"{count} entries, as token_ids has"
    )
    require(
        len(columns.log_scores) == count, "log_scores", len(columns.log_scores), f"{count} entries, as token_ids has"
    )
    require(count <= MAX_NODES_PER_SESSION, "token_ids", count, f"at most {MAX_NODES_PER_SESSION} nodes per message")
    require(columns.first_node_id >= 1, "first_node_id", columns.first_node_id, "at least 1")
    last = columns.first_node_id + count - 1
    require(last <= source.granted, "first_node_id", last, f"ids up to node_limit {source.granted}")
    if columns.root_position > root_position:
        raise FieldError("root_position", columns.root_position, f"a committed position, up to {root_position}")
    if not count:
        return
    largest = int(columns.token_ids.max())
    require(largest < vocabulary_size, "token_ids", largest, f"ids below the vocabulary's size {vocabulary_size}")
    ids = np.arange(columns.first_node_id, last + 1, dtype=np.uint64)
    orphans = np.flatnonzero(columns.parent_ids >= ids)
    if len(orphans):
        raise FieldError("parent_ids", int(columns.parent_ids[orphans[0]]), "0 or the id of an earlier node")
    require(bool(np.isfinite(columns.log_scores).all()), "log_scores", "not finite", "finite log-probabilities")


def merge(
    tree: DraftTree,
    committed: Sequence[int],
    source: DraftSource,
    columns: NodeColumns,
    calibration: Calibration | None = None,
) -> list[Node]:
    """Adds ``columns`` to ``tree`` and returns those of its nodes that are new there.

    ``committed`` are all tokens of the session up to the root. The columns have passed ``check_columns``. The source's
    estimates are corrected by its ``calibration``, if there is one.
    """
    anchor = Node(committed[columns.root_position], columns.root_position, None, 0.0, State.COMMITTED)
    added: list[Node] = []
    rows = zip(columns.token_ids.tolist(), columns.parent_ids.tolist(), columns.log_scores.tolist(), strict=True)
    trusted, trust = -1, 0.0  # siblings, which mostly come together, are trusted alike
    for node_id, (token_id, parent_id, log_score) in enumerate(rows, columns.first_node_id):
        if node_id <= source.last_node_id:
            continue
        source.last_node_id = node_id
        source.proposed += 1
        parent = anchor if parent_id == 0 else source.references.get(parent_id)
        said = min(max(log_score, MIN_LOG_SCORE), 0.0)
        if calibration and parent_id != trusted:
            trusted, trust = parent_id, calibration.trust(*_on_trial(parent, source.drafter_id))
        node, new = _resolve(tree, committed, parent, token_id, Estimate(said, trust), source)
        if node is None:
            source.stale += 1
            continue
        source.references[node_id] = node
        if new:
            added.append(node)
    if len(source.references) > _KEEP_REFERENCES:
        _forget(source, tree.root.position - MAX_DEPTH)
    return added


def _on_trial(parent: Node | None, drafter_id: str) -> tuple[int, float]:
    """How many live nodes down to ``parent`` this drafter proposed, the nearest few, and what it promised of them."""
    count, promised = 0, 0.0
    while parent is not None and drafter_id in parent.sources and count < _EVIDENCE:
        count, promised, parent = count + 1, promised + math.exp(parent.sources[drafter_id]), parent.parent
    return count, promised


def _resolve(
    tree: DraftTree,
    committed: Sequence[int],
    parent: Node | None,
    token_id: int,
    estimate: Estimate,
    source: DraftSource,
) -> tuple[Node | None, bool]:
    if parent is None or parent.state is State.DEAD:
        return None, False
    root = tree.root
    if parent.state is State.COMMITTED and parent.position < root.position:
        if committed[parent.position + 1] != token_id:
            return None, False
        return Node(token_id, parent.position + 1, None, 0.0, State.COMMITTED), False
    holder = root if parent.state is State.COMMITTED else parent
    crowded = tree.size >= MAX_LIVE_NODES or tree.owned[source.drafter_id] >= MAX_LIVE_NODES_PER_SOURCE
    full = crowded or holder.position + 1 - root.position > MAX_DEPTH
    if full and token_id not in holder.children:
        return None, False
    return tree.add(holder, token_id, estimate.corrected, source.drafter_id, estimate.said)


def _forget(source: DraftSource, oldest_position: int) -> None:
    """Drops references that no coming node can need, and the oldest of them if that is not enough."""
    kept = [
        (node_id, node)
        for node_id, node in source.references.items()
        if node.state is State.LIVE or (node.state is State.COMMITTED and node.position >= oldest_position)
    ]
    source.references = dict(kept[-_KEEP_REFERENCES // 2 :])
