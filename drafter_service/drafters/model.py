"""Drafts with a small language model: best-first growth of Gumbel-top-k children.

Children come from Recursive Speculative Decoding's sampling without replacement (arXiv 2402.14160) under noise shared
with the target, the order of growth from DySpec (arXiv 2410.11744), the floor from SpecDec++ (arXiv 2405.19715).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from drafter_service.drafters.scopes import PerTarget
from drafter_service.session import DraftSession
from paceline.engine.batch import Rows
from paceline.engine.blocks import PrefixKeys
from paceline.engine.cache import ROOT
from paceline.engine.cache import Sequence as CacheSequence
from paceline.engine.runner import Logits, ModelRunner
from paceline.speculation.accept import NodeCandidates
from paceline.speculation.estimate import Guess, ScoreScale, rank_children
from paceline.speculation.growth import EXPANSIONS, FLOOR, Ranked, expand_next, frontier
from paceline.speculation.law import TokenLaw
from paceline.speculation.policy import Mode
from paceline.speculation.sampling import warp
from paceline.speculation.tree import Node, State

MAX_TAIL = 192
PREFILL_CHUNK = 256


@dataclass
class _Cached:
    """What a session holds in the KV cache; ``expanded`` are the live nodes with a row there.

    ``guesses`` are the children of nodes of which the target has not chosen one yet.
    """

    sequence: CacheSequence
    law: TokenLaw
    length: int
    """Tokens of the text that the law knows."""
    expanded: list[Node] = field(default_factory=list)
    guesses: dict[Node, Guess] = field(default_factory=dict)


@dataclass(frozen=True)
class _Growth:
    """A session's part of a forward: the pending tokens up to the root, or some frontier nodes."""

    session: DraftSession
    rows: Rows
    nodes: tuple[Node, ...]


class ModelDrafter:
    """A model drafter over one engine; see ``DraftKind`` for the calls."""

    name = "model"
    wants_candidates = False

    def __init__(self, runner: ModelRunner) -> None:
        self._runner = runner
        self._scales = PerTarget(ScoreScale)
        self._cached: dict[str, _Cached] = {}

    def context(self, session: DraftSession) -> list[int]:
        """The tokens that the model reads: the whole text. What reads less must end with the text's last tokens."""
        return session.tokens

    def open(self, session: DraftSession) -> None:
        law = self._law(session)
        self._cached[session.session_id] = _Cached(self._sequence(session), law, len(session.tokens))

    def _law(self, session: DraftSession) -> TokenLaw:
        """As the target's, as far as a drafter knows what ends the text."""
        attach, config = session.attach, self._runner.config
        own = attach.sampling.stop_token_ids
        stop = own if attach.sampling.ignore_eos else (*config.stop_token_ids, *own)
        length, size = attach.prompt_length, config.vocabulary_size
        return TokenLaw(attach.sampling, session.noise, session.tokens, length, size, stop)

    def _sequence(self, session: DraftSession) -> CacheSequence:
        keys = PrefixKeys(session.attach.speculation.prefix_scope(session.session_id))
        return self._runner.open(MAX_TAIL, self.context(session), keys)

    def reread(self, session: DraftSession) -> None:
        """The context is another one now: begins anew with it, and expands anew what is left of the tree."""
        cached = self._cached[session.session_id]
        cached.sequence.close()
        for node in cached.expanded:
            node.row = -1
        cached.sequence, cached.expanded = self._sequence(session), []

    def close(self, session: DraftSession) -> None:
        cached = self._cached.pop(session.session_id, None)
        if cached:
            cached.sequence.close()

    def stop(self) -> None:
        """Nothing is kept."""

    def rewind(self, session: DraftSession, length: int) -> None:
        cached = self._cached[session.session_id]
        cached.sequence.truncate(length)
        cached.law, cached.length = self._law(session), len(session.tokens)
        cached.expanded.clear()
        cached.guesses.clear()

    def advance(self, session: DraftSession) -> None:
        """Re-roots: rows on the committed path become context, the surviving branch moves up, the rest is dropped."""
        cached = self._cached[session.session_id]
        path = [node.row for node in cached.expanded if node.state is State.COMMITTED]
        survivors = [node for node in cached.expanded if node.state is State.LIVE]
        cached.sequence.keep([*path, *(node.row for node in survivors)], commit=len(path))
        for row, node in enumerate(survivors):
            node.row = row
        cached.expanded = survivors
        cached.sequence.share(self.context(session))
        cached.law.commit(session.tokens[cached.length :])
        cached.length = len(session.tokens)
        self._learn(session, cached)

    def learn(
        self, session: DraftSession, candidates: Sequence[Sequence[int]], beside: Sequence[NodeCandidates] = ()
    ) -> None:
        """Has no use for them."""

    def _learn(self, session: DraftSession, cached: _Cached) -> None:
        """Puts what was guessed along the text to the test."""
        scale, open_guesses = self._scales.of(session), dict[Node, Guess]()
        for node, guess in cached.guesses.items():
            if node.state is State.LIVE or node is session.tree.root:
                open_guesses[node] = guess
            elif node.state is State.COMMITTED:
                scale.add(guess, session.tokens[node.position + 1])
        cached.guesses = open_guesses

    def growable(self, session: DraftSession) -> bool:
        """Makes room for the text first; raises ``OutOfBlocks`` when the cache has none."""
        self._cached[session.session_id].sequence.reserve(len(self.context(session)) + MAX_TAIL)
        return self._pending(session) > 0 or next(self._frontier(session), None) is not None

    def grow(self, sessions: Sequence[DraftSession]) -> None:
        """One forward: roots that have no K/V yet, and the best frontier nodes of all sessions."""
        growths = self._select(sessions)
        for growth, logits in zip(growths, self._runner.forward([growth.rows for growth in growths]), strict=True):
            self._expand(growth, logits)

    def _pending(self, session: DraftSession) -> int:
        return len(self.context(session)) - self._cached[session.session_id].sequence.num_computed_tokens

    def _frontier(self, session: DraftSession) -> Iterator[tuple[float, Node]]:
        """Nodes that may be expanded, best first."""
        if self._cached[session.session_id].sequence.room <= EXPANSIONS:
            return
        if session.mode is Mode.LOCKSTEP and session.growths >= session.attach.speculation.draft_depth:
            return
        yield from frontier(session.tree, session.mode, session.max_position)

    def _select(self, sessions: Sequence[DraftSession]) -> list[_Growth]:
        growths: list[_Growth] = []
        frontiers: list[Iterator[Ranked]] = []
        for session in sessions:
            pending = self._pending(session)
            if pending:
                sequence = self._cached[session.session_id].sequence
                start = sequence.num_computed_tokens
                chunk = self.context(session)[start : start + PREFILL_CHUNK]
                growths.append(_Growth(session, Rows(sequence, chunk), ()))
            frontiers.append(iter(()) if pending else self._frontier(session))
        growths.extend(self._expansion(sessions[index], nodes) for index, nodes in expand_next(frontiers).items())
        return growths

    def _expansion(self, session: DraftSession, nodes: Sequence[Node]) -> _Growth:
        root = session.tree.root
        parents = [ROOT if node.parent is root or node.parent is None else node.parent.row for node in nodes]
        rows = Rows(self._cached[session.session_id].sequence, [node.token_id for node in nodes], parents)
        return _Growth(session, rows, tuple(nodes))

    def _expand(self, growth: _Growth, logits: Logits) -> None:
        session, cached = growth.session, self._cached[growth.session.session_id]
        session.growths += 1
        if not growth.nodes:
            count = len(growth.rows.token_ids)
            cached.sequence.keep(range(count), commit=count)
            cached.sequence.share(self.context(session))
            if not self._pending(session):
                self._add_children(session, [session.tree.root], logits)
            return
        first = cached.sequence.tail - len(growth.nodes)
        for row, node in enumerate(growth.nodes, first):
            node.row = row
            cached.expanded.append(node)
        self._add_children(session, growth.nodes, logits)

    def _add_children(self, session: DraftSession, nodes: Sequence[Node], logits: Logits) -> None:
        sampling, cached = session.attach.sampling, self._cached[session.session_id]
        scores = logits.astype(float)
        if not cached.law.plain:
            rows = zip(nodes, logits, strict=True)
            scores = np.stack([cached.law.adjust(row, node.position + 1, node.path()) for node, row in rows])
        if not sampling.greedy:
            scores = warp(scores, sampling) + session.noise.rows([node.position + 1 for node in nodes])
        kappa, guesses = self._scales.of(session).kappa, cached.guesses
        for node, guess in zip(nodes, rank_children(scores, session.width, kappa), strict=True):
            guesses[node] = guess
            for token_id, log_score in zip(guess.token_ids, guess.log_scores, strict=True):
                if log_score > FLOOR:
                    session.add(node, token_id, log_score)
