"""Drafters without models: they grow trees in the services' own order and are right where the text's draws say so."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from drafter_service.drafters.lookup import FLOOR as LOOKUP_FLOOR
from drafter_service.drafters.lookup import MAX_NODES
from drafter_service.session import DraftSession
from paceline.experiments.simulation.acceptance import NO_RANK, Profile, Text, wrong_token
from paceline.speculation.accept import NodeCandidates
from paceline.speculation.growth import EXPANSIONS, FLOOR, Ranked, expand_next, frontier
from paceline.speculation.policy import Mode
from paceline.speculation.tree import Node

PREFILL_CHUNK = 256
"""Prompt tokens per forward, as of drafters with a model."""


@dataclass
class _Drafted:
    """A session at a drafter: its text, which live nodes are on it, and how much of its prompt is to be computed."""

    text: Text
    ranks: list[int]
    pending: int
    proposed_at: int = -1
    frontier: list[Ranked] | None = None
    """The best of what may be expanded; None: its root is to be computed first."""
    right: set[Node] = field(default_factory=set)


class SimulatedDrafts:
    """What both kinds have in common."""

    name = "model"
    wants_candidates = False
    rows = 0
    """Of the last growth."""

    def __init__(self, profile: Profile, salt: int, text_of: Callable[[int], Text]) -> None:
        """``text_of``: by noise key; ``salt`` makes wrong guesses its own."""
        self._profile, self._salt, self._text_of = profile, salt, text_of
        self._drafted: dict[str, _Drafted] = {}
        self._said = profile.said(len(profile.ranks))

    def open(self, session: DraftSession) -> None:
        text = self._text_of(session.attach.noise_key)
        self._drafted[session.session_id] = _Drafted(text, text.ranks(self._profile), len(session.tokens))

    def advance(self, session: DraftSession) -> None:
        drafted = self._drafted[session.session_id]
        node, tokens, right = session.tree.root, drafted.text.tokens, set[Node]()
        while (child := node.children.get(tokens[node.position + 1])) is not None:
            right.add(child)
            node = child
        drafted.right = right

    def learn(
        self, session: DraftSession, candidates: Sequence[Sequence[int]], beside: Sequence[NodeCandidates] = ()
    ) -> None:
        """Has no use for them."""

    def rewind(self, session: DraftSession, length: int) -> None:
        self._drafted[session.session_id].right.clear()

    def close(self, session: DraftSession) -> None:
        self._drafted.pop(session.session_id, None)

    def stop(self) -> None:
        """Nothing is kept."""

    def _children(self, session: DraftSession, drafted: _Drafted, node: Node, floor: float) -> list[Node]:
        """Adds a node's children, the likeliest first; on the text one of them may be right."""
        position, children = node.position + 1, list[Node]()
        on_text = node is session.tree.root or node in drafted.right
        truth, right = drafted.text.tokens[position], drafted.ranks[position] if on_text else NO_RANK
        for rank, score in enumerate(self._said[: session.width], 1):
            if score <= floor:
                continue
            if rank == right:
                child = session.add(node, truth, score)
                drafted.right.add(child)
            else:
                child = session.add(node, wrong_token(position, node.token_id, self._salt + rank, truth), score)
            children.append(child)
        return children


class SimulatedModel(SimulatedDrafts):
    """Grows as ``ModelDrafter`` does: the best nodes of all its sessions in one forward."""

    def growable(self, session: DraftSession) -> bool:
        drafted = self._drafted[session.session_id]
        if drafted.pending > 0 or session.tree.root.row < 0:
            drafted.frontier = None
            return True
        drafted.frontier = list(itertools.islice(self._frontier(session), EXPANSIONS))
        return bool(drafted.frontier)

    def grow(self, sessions: Sequence[DraftSession]) -> None:
        """Each has just been asked whether it is growable."""
        frontiers: list[Sequence[Ranked]] = []
        self.rows = 0
        for session in sessions:
            drafted = self._drafted[session.session_id]
            frontiers.append(drafted.frontier or ())
            if drafted.frontier is not None:
                continue
            session.growths += 1
            self.rows += min(max(1, drafted.pending), PREFILL_CHUNK)
            drafted.pending = max(0, drafted.pending - PREFILL_CHUNK)
            if drafted.pending == 0:
                self._expand(session, [session.tree.root])
        for index, nodes in expand_next(frontiers).items():
            self.rows += len(nodes)
            sessions[index].growths += 1
            self._expand(sessions[index], nodes)

    def _frontier(self, session: DraftSession) -> Iterator[Ranked]:
        if session.mode is Mode.LOCKSTEP and session.growths >= session.attach.speculation.draft_depth:
            return
        yield from frontier(session.tree, session.mode, session.max_position)

    def _expand(self, session: DraftSession, nodes: Sequence[Node]) -> None:
        drafted = self._drafted[session.session_id]
        for node in nodes:
            node.row = 0
            self._children(session, drafted, node, FLOOR)


class SimulatedLookups(SimulatedDrafts):
    """Grows as ``LookupDrafter`` does: all at once, once for each root."""

    name = "ngram"

    def growable(self, session: DraftSession) -> bool:
        return self._drafted[session.session_id].proposed_at != session.tree.root.position

    def grow(self, sessions: Sequence[DraftSession]) -> None:
        self.rows = MAX_NODES * len(sessions)
        for session in sessions:
            drafted = self._drafted[session.session_id]
            drafted.proposed_at = session.tree.root.position
            self._propose(session, drafted)

    def _propose(self, session: DraftSession, drafted: _Drafted) -> None:
        heap, count, deepest = [(0.0, 0, session.tree.root)], 0, session.max_position
        while heap and count < MAX_NODES:
            cost, _, node = heapq.heappop(heap)
            if node.position >= deepest:
                continue
            for child in self._children(session, drafted, node, LOOKUP_FLOOR + cost):
                count += 1
                heapq.heappush(heap, (cost - child.log_score, count, child))
