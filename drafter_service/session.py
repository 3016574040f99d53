"""One session at a drafter: the text as far as it knows it, its tree, and what it has not sent yet."""

from __future__ import annotations

import math
import time

import numpy as np

from paceline.messages import Attach, Growth, Join
from paceline.speculation.merge import MAX_DEPTH, MAX_NODES_PER_SESSION, NodeColumns
from paceline.speculation.noise import NoiseCache
from paceline.speculation.policy import Mode, Shape
from paceline.speculation.prefix import extend_hash, prefix_hash
from paceline.speculation.tree import DraftTree, Node, State

MAX_LIVE_NODES = 160
"""More are never worth a step; a verifier would take up to 1,024."""


class IdleTime:
    """Seconds in which nothing could be grown, since they were last asked for."""

    def __init__(self) -> None:
        self._seconds, self._since = 0.0, math.inf

    def note(self, now: float, *, idle: bool) -> None:
        """From now on it is idle, or no longer."""
        if idle:
            self._since = min(self._since, now)
        else:
            self._seconds += max(0.0, now - self._since)
            self._since = math.inf

    def take(self) -> float:
        seconds, self._seconds = self._seconds, 0.0
        return seconds


class DraftSession:
    """State between growths."""

    def __init__(self, attach: Attach, vocabulary_size: int, max_context: int) -> None:
        self.attach, self.max_context = attach, max_context
        self.incarnation = time.time_ns()
        """Node ids count from 1 again whenever a session is attached, so this must be new then."""
        self.tokens = list(attach.token_ids)
        self.hash = prefix_hash(self.tokens)
        self.tree = DraftTree(self.tokens[-1], len(self.tokens) - 1)
        self.noise = NoiseCache(attach.noise_key, vocabulary_size)
        self.mode = attach.speculation.mode
        self.width = 1 if attach.speculation.shape is Shape.CHAIN else attach.speculation.draft_width
        self.joined = False
        self.idle = IdleTime()
        self.busy_seconds = 0.0
        """Its share of the growths since the last message."""
        self.growing_since: float | None = None
        """When the growth began that brought the first of the nodes that are not sent yet."""
        self.node_limit = 0
        self.growths = 0
        """Growths since the last verdict."""
        self.round_complete = False
        self._next_node_id = 1
        self._unsent: list[Node] = []

    @property
    def session_id(self) -> str:
        return self.attach.session_id

    @property
    def max_position(self) -> int:
        """The deepest position that a node may take: what comes after it must still be wanted and computable."""
        deepest = self.tree.root.position + min(self.attach.speculation.draft_depth, MAX_DEPTH)
        wanted = self.attach.sampling.max_tokens
        last = self.max_context - 1 if wanted is None else self.attach.prompt_length + wanted - 2
        return min(deepest, last, self.max_context - 1)

    @property
    def may_grow(self) -> bool:
        """Whether anybody would take more nodes now."""
        return (
            self.joined
            and not self.round_complete
            and len(self.tokens) <= self.max_context
            and self.mode is not Mode.OFF
            and self.tree.size < MAX_LIVE_NODES
            and self._next_node_id + len(self._unsent) <= self.node_limit
        )

    def take_busy_seconds(self) -> float:
        seconds, self.busy_seconds = self.busy_seconds, 0.0
        return seconds

    def about_to_grow(self, now: float) -> None:
        """A growth begins; one before it that brought nothing is forgotten."""
        if not self._unsent or self.growing_since is None:
            self.growing_since = now

    def take_growth(self, now: float) -> Growth | None:
        """Of what is about to be sent, if anybody watches; ``now`` is on the clock of the growths."""
        since, self.growing_since = self.growing_since, None
        if since is None or not self.attach.watched:
            return None
        sent = time.time()
        return Growth(sent - max(0.0, now - since), sent)

    def join(self, drafter_id: str, *, wants_candidates: bool) -> Join:
        """The message that asks the verifier in."""
        return Join(
            session_id=self.session_id,
            epoch=self.attach.epoch,
            drafter_id=drafter_id,
            incarnation=self.incarnation,
            key=self.attach.key,
            have_length=len(self.tokens),
            prefix_hash=self.hash,
            wants_candidates=wants_candidates,
        )

    def add(self, parent: Node, token_id: int, log_score: float) -> Node:
        """Adds a candidate below ``parent``, or finds the one that is there."""
        node, new = self.tree.add(parent, token_id, log_score)
        if new:
            self._unsent.append(node)
        return node

    def extend(self, token_ids: tuple[int, ...]) -> None:
        """Tokens were committed: moves the root; what lies beside the text dies."""
        self.tokens.extend(token_ids)
        self.hash = extend_hash(self.hash, token_ids)
        self.tree.advance(token_ids)
        self._unsent = [node for node in self._unsent if node.state is State.LIVE]
        self.growths, self.round_complete = 0, False

    def replace(self, position: int, token_ids: tuple[int, ...]) -> None:
        """Takes over the verifier's tokens from ``position`` on."""
        self.tokens[position:] = token_ids
        self.hash = prefix_hash(self.tokens)
        self.tree.clear()
        self.tree = DraftTree(self.tokens[-1], len(self.tokens) - 1)
        self._unsent.clear()
        self.growths, self.round_complete = 0, False

    def take_unsent(self) -> NodeColumns | None:
        """Columns of the nodes that may be sent now, ids given in order; None when there are none."""
        room = min(max(0, self.node_limit - self._next_node_id + 1), MAX_NODES_PER_SESSION)
        nodes, self._unsent = self._unsent[:room], self._unsent[room:]
        if not nodes:
            return None
        first = self._next_node_id
        for node_id, node in enumerate(nodes, first):
            node.node_id = node_id
        self._next_node_id += len(nodes)
        root = self.tree.root
        parents = [0 if node.parent is root or node.parent is None else node.parent.node_id for node in nodes]
        return NodeColumns(
            first_node_id=first,
            root_position=root.position,
            token_ids=np.array([node.token_id for node in nodes], np.uint32),
            parent_ids=np.array(parents, np.uint64),
            log_scores=np.array([node.log_score for node in nodes], np.float32),
        )
