"""One step: launch with what is ready, decide by the target's own choices, commit."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from paceline.engine.cache import ROOT
from paceline.engine.runner import Logits
from paceline.messages import CommittedTokens, FinishReason, SessionEvent, StepCounts
from paceline.speculation.accept import Decision, NodeCandidates, walk
from paceline.speculation.cost import CostCurve
from paceline.speculation.logprobs import token_logprobs
from paceline.speculation.sampling import NotANumber, best_tokens, check_logits
from paceline.speculation.tree import Selection
from paceline.synthetic import SyntheticChoices
from verifier_service.grammar.backend import GrammarFailed
from verifier_service.grammar.matcher import Masks
from verifier_service.outbox import Outbox
from verifier_service.plan import Entry, Plan, make_plan
from verifier_service.session import Session
from verifier_service.switch import Switch
from verifier_service.table import SessionTable


@dataclass(frozen=True)
class Computed:
    """A chunk of a prompt is in the cache."""


@dataclass(frozen=True)
class Failed:
    """A session cannot go on; the others can."""

    detail: str


Outcome = Decision | Computed | Failed
CANDIDATES = 8
"""Best tokens of the target that a drafter is told for each position, if it asks."""
BESIDE = 16
"""Nodes beside the text of which it is told too, at most: the likeliest."""
NOTHING = Selection((), (), ())
"""No nodes: what a last chunk of a prompt comes with."""


class Stepper:
    """The three parts of a step that are not the forward. ``launch`` and ``commit`` need the verifier's lock."""

    def __init__(
        self,
        table: SessionTable,
        cost: CostCurve,
        switch: Switch,
        clock: Callable[[], float],
        synthetic: SyntheticChoices | None = None,
    ) -> None:
        self._table, self._cost, self._switch, self._clock = table, cost, switch, clock
        self._synthetic = synthetic

    def launch(self) -> Plan:
        """Admits what has room and plans the step; empty: nothing to do yet."""
        now = self._clock()
        self._table.free()
        for session in self._table.admit():
            if session.admitted(now):
                session.gateway.send([SessionEvent(session.session_id, session.epoch, opened=True)])
        return make_plan(self._table, self._cost, now)

    # -- decide --------------------------------------------------------------------------------------------------------

    def decide(self, plan: Plan, logits: Sequence[Logits], masks: Mapping[str, Masks]) -> list[Outcome]:
        """What each session's rows mean; ``masks`` are there, by session, for those that are held to a grammar."""
        return [self._decide(entry, rows, masks) for entry, rows in zip(plan, logits, strict=True)]

    def _decide(self, entry: Entry, logits: Logits, masks: Mapping[str, Masks]) -> Outcome:
        try:
            if entry.selection is not None:
                return self._walk(entry.session, entry.token_ids, entry.selection, logits, masks)
            if entry.reaches_root:
                return self._walk(entry.session, entry.token_ids[-1:], NOTHING, logits, masks)
            check_logits(logits[0])  # what is wrong with any row of a chunk is wrong with all that follow it
            return Computed()
        except NotANumber as error:
            at = f"after {entry.sequence.num_computed_tokens} tokens"
            return Failed(f"the target's logits {error} {at}: its weights, or its dtype, do not bear this text")
        except GrammarFailed as error:
            return Failed(f"the grammar cannot be followed after {entry.sequence.num_computed_tokens} tokens: {error}")

    def _walk(
        self,
        session: Session,
        token_ids: Sequence[int],
        selection: Selection,
        logits: Logits,
        masks: Mapping[str, Masks],
    ) -> Decision:
        root = session.tree.root
        held = None if session.matcher is None else masks[session.session_id]

        def choice(row: int) -> int:
            node = selection.nodes[row - 1] if row else root
            allowed = None if held is None else held.allowed(row)
            return session.law.choose(logits[row], node.position + 1, node.path(), allowed)

        said: Callable[[int], int] = choice
        if self._synthetic is not None:
            said = self._synthetic.choice(choice, selection, root, session.noise.key)
        decision = walk(token_ids, (ROOT, *selection.parents), said, session.stop, session.room)
        return self._with_what_is_asked_for(session, decision, selection, logits)

    @staticmethod
    def _with_what_is_asked_for(session: Session, decision: Decision, selection: Selection, logits: Logits) -> Decision:
        """Log-probabilities for the client, the target's best tokens for drafters."""
        rows, count = [0, *decision.accepted_rows], session.opening.sampling.logprobs
        if count is not None:
            decision = replace(decision, logprobs=token_logprobs(logits[rows], decision.token_ids, count))
        if any(attachment.on and attachment.wants_candidates for attachment in list(session.attachments.values())):
            decision = _with_candidates(decision, selection, logits)
        return decision

    # -- commit --------------------------------------------------------------------------------------------------------

    def commit(self, plan: Plan, outcomes: Sequence[Outcome]) -> Outbox:
        """Makes the outcomes part of the texts; returns what there is to tell."""
        outbox, now = Outbox(), self._clock()
        emitted = [len(outcome.token_ids) if isinstance(outcome, Decision) else 0 for outcome in outcomes]
        self._switch.observe(plan, emitted, len(self._table.running), now)
        for entry, outcome in zip(plan, outcomes, strict=True):
            session = entry.session
            session.in_flight = False
            if session.ended:  # aborted meanwhile
                self._table.release(session)
                continue
            match outcome:
                case Computed():
                    self._commit_rows(entry, range(len(entry.token_ids)))
                    if session.prefilled:
                        session.start_decoding(now)
                case Decision() if entry.selection is None:
                    session.start_decoding(now)
                    self._commit_tokens(entry, range(len(entry.token_ids)), NOTHING, outcome, outbox)
                case Failed():
                    session.ended = FinishReason.ERROR
                    self._tell(session, None, outbox, outcome.detail)
                case Decision():
                    assert entry.selection is not None, "else it is a last chunk"
                    session.usual_step.add(now - session.launched_at)
                    self._commit_tokens(entry, (0, *outcome.accepted_rows), entry.selection, outcome, outbox)
        for session, attachment in self._switch.changes(self._table.running.values()):
            outbox.verdict(attachment.link, session.verdict(attachment))
        return outbox

    def _commit_tokens(
        self, entry: Entry, rows: Sequence[int], selection: Selection, decision: Decision, outbox: Outbox
    ) -> None:
        session, position = entry.session, len(entry.session.tokens)
        drafters = session.commit(selection, decision, self._clock())
        self._commit_rows(entry, rows)
        step = StepCounts(len(decision.token_ids), len(selection.nodes))
        committed = CommittedTokens(
            position, decision.token_ids, session.hashes[-1], decision.logprobs, drafters, (step,)
        )
        self._tell(session, committed, outbox)

    @staticmethod
    def _commit_rows(entry: Entry, rows: Sequence[int]) -> None:
        entry.sequence.keep(rows, commit=len(rows))
        entry.sequence.share(entry.session.tokens)

    def _tell(self, session: Session, committed: CommittedTokens | None, outbox: Outbox, detail: str = "") -> None:
        """The news for gateway and drafters; an ended session leaves the table."""
        outbox.event(session.gateway, session.event(self._clock(), committed, detail))
        for attachment in session.attachments.values():
            if session.must_tell(attachment):
                outbox.verdict(attachment.link, session.verdict(attachment))
        if session.ended is not None:
            self._table.forget(session)


def _with_candidates(decision: Decision, selection: Selection, logits: Logits) -> Decision:
    """With the target's best tokens at the text's positions, and after the likeliest nodes beside it."""
    path, scores = (0, *decision.accepted_rows), selection.path_scores
    beside = [row for row in range(1, len(selection.nodes) + 1) if row not in path]
    beside = sorted(beside, key=lambda row: scores[row - 1])[-BESIDE:]
    best = best_tokens(logits[[*path, *beside]], CANDIDATES)
    told = zip((selection.nodes[row - 1].token_id for row in beside), best[len(path) :], strict=True)
    return replace(decision, candidates=best[: len(path)], beside=tuple(NodeCandidates(*item) for item in told))
