"""Experimental: drafters without models. Their trees grow in the order of the kinds that they stand for, take the time
they are told to, and are right about a synthetic text as often as they are told to be (``paceline/synthetic.py``)."""

from __future__ import annotations

import heapq
import time
import zlib
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from drafter_service.drafters.lookup import FLOOR as LOOKUP_FLOOR
from drafter_service.drafters.lookup import MAX_NODES
from drafter_service.session import DraftSession
from paceline.emulation import Pace
from paceline.speculation.accept import NodeCandidates
from paceline.speculation.growth import FLOOR, Ranked, expand_next, frontier
from paceline.speculation.policy import Mode
from paceline.speculation.tree import Node
from paceline.synthetic import NO_RANK, SyntheticDrafts, SyntheticText, text_of, wrong_token

PREFILL_CHUNK = 256
"""Prompt tokens per forward, as of drafters with a model."""


@dataclass
class _Drafted:
    """A session: its text, which live nodes are on it, and how much of its prompt is to be computed."""

    text: SyntheticText
    pending: int
    proposed_at: int = -1
    right: set[Node] = field(default_factory=set)


class SyntheticKind(ABC):
    """What both have in common; see ``DraftKind`` for the calls."""

    name: str
    wants_candidates = False

    def __init__(self, name: str, drafts: SyntheticDrafts, pace: Pace | None) -> None:
        """``name``: of the kind that it stands for."""
        self.name, self._drafts, self._pace = name, drafts, pace
        self._salt = zlib.crc32(name.encode())
        """Two kinds are wrong in different ways."""
        self._drafted: dict[str, _Drafted] = {}

    def open(self, session: DraftSession) -> None:
        self._drafted[session.session_id] = _Drafted(text_of(session.attach.noise_key), len(session.tokens))

    def advance(self, session: DraftSession) -> None:
        drafted = self._drafted[session.session_id]
        node, right = session.tree.root, set[Node]()
        while (child := node.children.get(drafted.text.token(node.position + 1))) is not None:
            right.add(child)
            node = child
        drafted.right = right

    def learn(  # noqa: B027 - likewise
        self, session: DraftSession, candidates: Sequence[Sequence[int]], beside: Sequence[NodeCandidates] = ()
    ) -> None:
        """Has no use for them."""

    def rewind(self, session: DraftSession, length: int) -> None:
        self._drafted[session.session_id].right.clear()

    def close(self, session: DraftSession) -> None:
        self._drafted.pop(session.session_id, None)

    def stop(self) -> None:  # noqa: B027 - nothing to do is all there is to do
        """Nothing is kept."""

    def grow(self, sessions: Sequence[DraftSession]) -> None:
        started = time.perf_counter()
        rows = self.grow_trees(sessions)
        if self._pace is not None:
            self._pace.hold(started, rows, sessions=len(sessions))

    @abstractmethod
    def growable(self, session: DraftSession) -> bool:
        """Whether ``grow`` would have something to add."""

    @abstractmethod
    def grow_trees(self, sessions: Sequence[DraftSession]) -> int:
        """One growth; the rows that a forward would have had."""

    def add_children(self, session: DraftSession, node: Node, floor: float) -> Iterator[Node]:
        """A node's children, the likeliest first; below a node on the text one of them may be right."""
        drafted, root, position = self._drafted[session.session_id], session.tree.root, node.position + 1
        depth, truth = position - root.position, drafted.text.token(position)
        on_text = node is root or node in drafted.right
        right = self._drafts.rank(drafted.text, position, depth) if on_text else NO_RANK
        for rank, score in enumerate(self._drafts.said(depth, session.width), 1):
            if score <= floor:
                continue
            token = truth if rank == right else wrong_token(position, node.token_id, self._salt + rank, truth)
            child = session.add(node, token, score)
            if rank == right:
                drafted.right.add(child)
            yield child


class SyntheticModel(SyntheticKind):
    """Grows as ``ModelDrafter`` does: the best nodes of all its sessions in one forward."""

    def growable(self, session: DraftSession) -> bool:
        return self._computes(session) or next(self._frontier(session), None) is not None

    def grow_trees(self, sessions: Sequence[DraftSession]) -> int:
        rows, frontiers = 0, list[Iterator[Ranked]]()
        for session in sessions:
            computes = self._computes(session)
            frontiers.append(iter(()) if computes else self._frontier(session))
            if computes:
                rows += self._compute(session)
        for index, nodes in expand_next(frontiers).items():
            rows += len(nodes)
            self._expand(sessions[index], nodes)
        return rows

    def _computes(self, session: DraftSession) -> bool:
        """Whether tokens up to the root are still to be computed."""
        return self._drafted[session.session_id].pending > 0 or session.tree.root.row < 0

    def _compute(self, session: DraftSession) -> int:
        drafted = self._drafted[session.session_id]
        rows = min(max(1, drafted.pending), PREFILL_CHUNK)
        drafted.pending = max(0, drafted.pending - PREFILL_CHUNK)
        if drafted.pending == 0:
            self._expand(session, [session.tree.root])
        else:
            session.growths += 1
        return rows

    def _frontier(self, session: DraftSession) -> Iterator[Ranked]:
        if session.mode is Mode.LOCKSTEP and session.growths >= session.attach.speculation.draft_depth:
            return
        yield from frontier(session.tree, session.mode, session.max_position)

    def _expand(self, session: DraftSession, nodes: Sequence[Node]) -> None:
        session.growths += 1
        for node in nodes:
            node.row = 0
            for _ in self.add_children(session, node, FLOOR):
                pass


class SyntheticLookup(SyntheticKind):
    """Grows as ``LookupDrafter`` does: all at once, once for each root."""

    def growable(self, session: DraftSession) -> bool:
        return self._drafted[session.session_id].proposed_at != session.tree.root.position

    def grow_trees(self, sessions: Sequence[DraftSession]) -> int:
        for session in sessions:
            self._drafted[session.session_id].proposed_at = session.tree.root.position
            self._propose(session)
        return MAX_NODES * len(sessions)

    def _propose(self, session: DraftSession) -> None:
        heap, count, deepest = [(0.0, 0, session.tree.root)], 0, session.max_position
        while heap and count < MAX_NODES:
            cost, _, node = heapq.heappop(heap)
            if node.position >= deepest:
                continue
            for child in self.add_children(session, node, LOOKUP_FLOOR + cost):
                count += 1
                heapq.heappush(heap, (cost - child.log_score, count, child))
