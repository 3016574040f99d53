"""One session at the verifier: its text, its merged tree, its drafters, its record."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

from paceline.engine.blocks import PrefixKeys
from paceline.engine.cache import Sequence as CacheSequence
from paceline.messages import (
    CommittedTokens,
    FinishReason,
    ModelInfo,
    OpenSession,
    OverlapStatistics,
    SessionEvent,
    Usage,
    Verdict,
)
from paceline.speculation.accept import Decision, NodeCandidates
from paceline.speculation.estimate import Calibration, MovingAverage
from paceline.speculation.law import TokenLaw
from paceline.speculation.merge import SUREST, DraftSource
from paceline.speculation.merit import Merit
from paceline.speculation.noise import NoiseCache
from paceline.speculation.policy import LOCKSTEP_TIMEOUT_SECONDS, Mode, Rhythm, seconds_to_wait
from paceline.speculation.prefix import EMPTY, extend_hash
from paceline.speculation.select import Candidate
from paceline.speculation.tree import DraftTree, Node, Selection, State
from verifier_service.attachment import Attachment, DrafterLink, GatewayLink
from verifier_service.grammar.matcher import SOURCE, Matcher
from verifier_service.record import Record, Step
from verifier_service.stay import Stay
from verifier_service.timeline import Timeline

TOLD_TOGETHER = 64
"""Tokens after which a drafter that does not draft is told of them."""
MISSED_ROUNDS = 4
"""Lockstep: who misses so many rounds in a row is waited for no more until one of them is complete."""
REPORT_SECONDS = 0.25
"""How often the gateway hears how a session's drafting goes."""


class Session:
    """State between steps. Only ``commit`` changes the text."""

    def __init__(  # noqa: PLR0915 - state
        self,
        opening: OpenSession,
        gateway: GatewayLink,
        model: ModelInfo,
        now: float,
        matcher: Matcher | None = None,
        verifier_id: str = "",
    ) -> None:
        """``matcher``: where the text stands in the grammar that it is held to, if any."""
        self.opening, self.gateway, self.matcher = opening, gateway, matcher
        self.tokens = list(opening.token_ids)
        self.hashes = _hashes(self.tokens)
        self.tree = DraftTree(self.tokens[-1], len(self.tokens) - 1)
        self.noise = NoiseCache(opening.noise_key, model.vocabulary_size)
        self.stop = _stop(opening, model, held=matcher is not None)
        """Tokens that end the text."""
        self.law = TokenLaw(
            opening.sampling, self.noise, self.tokens, opening.prompt_length, model.vocabulary_size, self.stop
        )
        self.mode = opening.speculation.mode
        self.max_draft_nodes = opening.speculation.max_draft_nodes
        self.length_limit = _length_limit(opening, model)
        self.attachments: dict[str, Attachment] = {}
        self.revoked: set[str] = set()
        self.gone: dict[str, Attachment] = {}
        self.sequence: CacheSequence | None = None
        """Its rows in the cache while it runs."""
        self.keys = PrefixKeys(opening.speculation.prefix_scope(opening.session_id))
        self.priority, self.arrival = opening.priority, 0
        self.in_flight = False
        self.ended: FinishReason | None = None
        self.record, self.timeline = Record(), Timeline(now, verifier_id, opening.epoch)
        if opening.watched:
            self.record.watchers.append(self.timeline.write)
        self.forced = DraftSource(SOURCE)
        """What the grammar itself proposes."""
        if matcher is not None:
            self.record.sources[SOURCE] = self.forced
        self.reported_at = 0.0
        self.usual_step = MovingAverage()
        """Seconds of its steps that were not prefill."""
        self.rooted_at = self.launched_at = 0.0
        self.candidates: tuple[tuple[int, ...], ...] = ()
        """The target's best tokens at the last positions, of the last step, if a drafter wants them."""
        self.beside: tuple[NodeCandidates, ...] = ()
        """And after nodes of that step that lie beside the text."""
        self.drafting: tuple[str, ...] = ()
        """Drafters that were to draft when its step was launched."""
        self.growing = False
        """Whether one of them was growing still."""
        self.decoding_since: float | None = None
        self.stay = Stay(self.record, waiting_since=now)

    @property
    def session_id(self) -> str:
        return self.opening.session_id

    @property
    def epoch(self) -> int:
        return self.opening.epoch

    @property
    def room(self) -> int:
        """Tokens that may still be emitted."""
        return self.length_limit - len(self.tokens)

    @property
    def missing(self) -> int:
        """Tokens whose K/V is not in the cache, the root included."""
        computed = 0 if self.sequence is None else self.sequence.num_computed_tokens
        return len(self.tokens) - computed

    @property
    def prefilled(self) -> bool:
        """All K/V before the root is in the cache."""
        return self.sequence is not None and self.missing == 1

    def candidate(self, most: int | None = None) -> Candidate:
        """What the next step may take: its node budget, at most ``most``, nothing deeper than may still be emitted."""
        budget = 0 if self.mode is Mode.OFF else self.max_draft_nodes
        depth = min(self.opening.speculation.draft_depth, self.room - 1)
        return Candidate(self.tree, budget if most is None else min(budget, most), depth)

    def seconds_to_wait(self, now: float) -> float:
        """How long a step should wait for drafts, unless they come; 0: launch with what has arrived.

        Never longer in all than a step takes: a drafter can cost no more than that, whatever it makes us believe.
        """
        drafting = [attachment for attachment in self.attachments.values() if attachment.on]
        if self.mode is Mode.OFF or not drafting or not self.max_draft_nodes or self.room == 1:
            return 0.0
        waited = now - self.rooted_at
        if self.mode is Mode.LOCKSTEP:
            complete = all(self._complete(a) or a.missed_rounds >= MISSED_ROUNDS for a in drafting)
            return 0.0 if complete else max(0.0, LOCKSTEP_TIMEOUT_SECONDS - waited)
        patience = self.usual_step.get(0.0) - waited
        if patience <= 0:
            return 0.0
        outlooks = [attachment.rhythm.outlook(now) for attachment in drafting]
        wait = seconds_to_wait((outlook for outlook in outlooks if outlook is not None), self.rate(now))
        return min(wait, patience)

    def _complete(self, attachment: Attachment) -> bool:
        return attachment.complete_root == self.tree.root.position

    def rate(self, now: float) -> float:
        """Tokens per second since the first root; 0 before anything is known."""
        elapsed = 0.0 if self.decoding_since is None else now - self.decoding_since
        emitted = self.record.emitted
        return emitted / elapsed if emitted and elapsed > 0 else 0.0

    def launch(self, now: float) -> None:
        """Its part of a step begins."""
        self.in_flight, self.launched_at = True, now
        drafting = {name: a for name, a in self.attachments.items() if a.on and self.mode is not Mode.OFF}
        self.drafting = tuple(drafting)
        for attachment in drafting.values():
            attachment.missed_rounds = 0 if self._complete(attachment) else attachment.missed_rounds + 1
        if self.matcher is not None and self.mode is not Mode.OFF:
            self.drafting = (*drafting, SOURCE)
        overlapped = self.mode is Mode.OVERLAPPED
        self.growing = overlapped and any(attachment.rhythm.growing(now) for attachment in drafting.values())

    def admitted(self, now: float) -> bool:
        """It has been given a sequence; whether for the first time, not after a preemption."""
        assert self.sequence is not None, "it has just been given one"
        cached = min(self.sequence.num_computed_tokens, self.opening.prompt_length)
        first = self.stay.admitted(now, cached, self.missing - 1)
        if self.prefilled:
            self.start_decoding(now)
        return first

    def start_decoding(self, now: float) -> None:
        self.rooted_at = now
        self.stay.computed(now)
        if self.decoding_since is None:
            self.decoding_since = now
        left = self.tree.expected(self.max_draft_nodes)
        for attachment in self.attachments.values():
            attachment.rhythm.verdict(now, left)
        self._propose_forced()

    def commit(self, selection: Selection, decision: Decision, now: float) -> tuple[tuple[str, ...], ...]:
        """Makes a decision part of the text: the one place where a session's tokens grow. If the client wants to know:
        who had proposed each token."""
        accepted = [selection.nodes[row - 1] for row in decision.accepted_rows]
        rooted_at = min(self.rooted_at, self.launched_at)  # the last chunk of a prompt makes its root itself
        self.record.add(
            Step(
                rooted_at=rooted_at,
                launched_at=self.launched_at,
                decided_at=now,
                verified=selection.nodes,
                accepted=accepted,
                position=len(self.tokens),
                token_ids=decision.token_ids,
                drafters=self.drafting,
                growing=self.growing,
            )
        )
        self._calibrate(selection, accepted)
        self.law.commit(decision.token_ids)
        if self.matcher is not None:
            self.matcher.commit(decision.token_ids)
        self.candidates, self.beside = decision.candidates, decision.beside
        for token_id in decision.token_ids:
            self.tokens.append(token_id)
            self.hashes.append(extend_hash(self.hashes[-1], (token_id,)))
        self.tree.advance(decision.token_ids)
        self.rooted_at, left = now, self.tree.expected(self.max_draft_nodes)
        for attachment in self.attachments.values():
            if attachment.on:
                attachment.rhythm.verdict(now, left)
        if decision.stopped:
            self.ended = FinishReason.STOP
        elif self.room == 0:
            self.ended = FinishReason.LENGTH
        else:
            self._propose_forced()
        return (*(tuple(sorted(node.sources)) for node in accepted), ()) if self.opening.speculation.events else ()

    def _propose_forced(self) -> None:
        """What the grammar makes come next becomes a chain of nodes like any drafter's."""
        if self.matcher is None or self.mode is Mode.OFF or not self.max_draft_nodes:
            return
        node = self.tree.root
        for token_id in self.matcher.forced()[: self.opening.speculation.draft_depth]:
            known = node.children.get(token_id)
            self.forced.proposed += known is None or SOURCE not in known.sources
            node, _ = self.tree.add(node, token_id, SUREST, SOURCE)

    def admitted_by_grammar(self, nodes: Sequence[Node]) -> list[Node]:
        """Those new nodes that the grammar may reach; the others leave the tree."""
        if self.matcher is None:
            return list(nodes)
        for node in nodes:
            if node.state is State.LIVE and not self.matcher.admits(node.path()):
                self.tree.drop(node)
        return [node for node in nodes if node.state is State.LIVE]

    def _calibrate(self, selection: Selection, accepted: Sequence[Node]) -> None:
        """Puts to the test what drafters said of the nodes whose parent was accepted."""
        parents = {self.tree.root, *accepted}
        tested = [node for node in selection.nodes if node.parent in parents]
        for drafter_id, attachment in self.attachments.items():
            said = [node.sources[drafter_id] for node in tested if drafter_id in node.sources]
            right = sum(drafter_id in node.sources for node in accepted)
            if said:
                promised = sum(map(math.exp, said))
                attachment.calibration.add(promised, right, len(said))
                attachment.source.tested += len(said)
                attachment.source.promised += promised
            if drafter_id in self.drafting:
                attachment.merit.step(right)

    def attached_by(self, link: DrafterLink) -> list[Attachment]:
        """The places of the drafters that came by this link, nearly always one."""
        return [attachment for attachment in self.attachments.values() if attachment.link is link]

    def detach(self, drafter_id: str) -> None:
        """Forgets a drafter's link; its nodes stay, they are only hints, and what is known of it is kept."""
        attachment = self.attachments.pop(drafter_id, None)
        if attachment:
            self.gone[drafter_id] = attachment

    def attach(
        self,
        drafter_id: str,
        incarnation: int,
        link: DrafterLink,
        calibration: Calibration,
        merit: Merit,
        now: float,
    ) -> Attachment:
        """Gives a drafter a place, with what is known of it if it was here before; it is about to be told all."""
        self.detach(drafter_id)
        attachment = self.gone.pop(drafter_id, None) or Attachment(
            DraftSource(drafter_id), link, Rhythm(now), calibration, merit, told=len(self.tokens)
        )
        attachment.link, attachment.complete_root, attachment.told = link, -1, len(self.tokens)
        attachment.rhythm.verdict(now, self.tree.expected(self.max_draft_nodes))
        if attachment.source.incarnation != incarnation:
            attachment.source.restart(incarnation)
        self.attachments[drafter_id] = attachment
        self.record.sources[drafter_id] = attachment.source
        return attachment

    def verdict(self, attachment: Attachment, mode: Mode | None = None) -> Verdict:
        """What this drafter hears: the tokens that it has not been told, its credit, and the mode if it changed."""
        position, attachment.told = attachment.told, len(self.tokens)
        wanted = attachment.wants_candidates and position < len(self.tokens)
        return Verdict(
            session_id=self.session_id,
            epoch=self.epoch,
            position=position,
            token_ids=tuple(self.tokens[position:]),
            prefix_hash=self.hashes[-1],
            ended=self.ended is not None,
            node_limit=attachment.source.node_limit(credit=attachment.on),
            mode=mode,
            candidates=self.candidates if wanted else (),
            beside=self.beside if wanted else (),
        )

    def must_tell(self, attachment: Attachment) -> bool:
        """Whether a drafter is to hear of a step now; one that does not draft is told when it is worth a message."""
        return attachment.on or self.ended is not None or len(self.tokens) - attachment.told >= TOLD_TOGETHER

    def event(self, now: float, committed: CommittedTokens | None, detail: str = "") -> SessionEvent:
        """What the gateway hears after a step, or at the end."""
        return SessionEvent(
            self.session_id,
            self.epoch,
            committed=committed,
            finish_reason=self.ended,
            usage=None if self.ended is None else self.usage(),
            overlap=self.report(now),
            detail=detail,
            events=self.timeline.take() if self.opening.watched else (),
        )

    def usage(self) -> Usage:
        prompt = self.opening.prompt_length
        return Usage(prompt, len(self.tokens) - prompt, cached_tokens=self.stay.cached_tokens or 0)

    def report(self, now: float) -> OverlapStatistics | None:
        """How drafting goes, when it is time to tell or the session is over."""
        if self.ended is None and (now - self.reported_at < REPORT_SECONDS or self.mode is Mode.OFF):
            return None
        self.reported_at = now
        return self.record.statistics(self._drafts)

    def _drafts(self, name: str) -> bool:
        return name == SOURCE or (name in self.attachments and self.attachments[name].pays)


def _hashes(token_ids: Sequence[int]) -> list[int]:
    """Of every prefix, the empty one first."""
    return list(itertools.accumulate(token_ids, lambda value, token_id: extend_hash(value, (token_id,)), initial=EMPTY))


def _stop(opening: OpenSession, model: ModelInfo, *, held: bool) -> frozenset[int]:
    """The model's own stop tokens, if they are not ignored, and the request's. A grammar that the text is held to lets
    an ignored one come only where nothing else may."""
    own, sampling = opening.sampling.stop_token_ids, opening.sampling
    return frozenset(own if sampling.ignore_eos and not held else (*model.stop_token_ids, *own))


def _length_limit(opening: OpenSession, model: ModelInfo) -> int:
    wanted = opening.sampling.max_tokens
    return model.max_context if wanted is None else min(model.max_context, opening.prompt_length + wanted)
