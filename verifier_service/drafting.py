"""What drafters may do in sessions: join, send nodes, complete rounds, and be shown out."""

from __future__ import annotations

import hmac
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from paceline.errors import FieldError
from paceline.messages import (
    DraftNodes,
    DraftUpdate,
    Join,
    Joined,
    Rejection,
    RevokeDrafter,
    RoundComplete,
    Status,
    Verdicts,
    drafter_key,
)
from paceline.security.refusals import REFUSALS
from paceline.speculation.estimate import Calibration
from paceline.speculation.fields import require
from paceline.speculation.merge import MAX_ENTRIES, MAX_NODES_PER_MESSAGE, DraftSource, check_columns, merge
from paceline.speculation.merit import Merit
from paceline.speculation.tree import Node, State
from paceline.telemetry.measuring import MOST_NAMES
from verifier_service.attachment import Attachment, DrafterLink
from verifier_service.grammar.matcher import SOURCE
from verifier_service.quarantine import Quarantine
from verifier_service.record import Arrival
from verifier_service.session import Session
from verifier_service.switch import Switch
from verifier_service.table import SessionTable

EARLY_JOIN_SECONDS = 2.0


@dataclass
class Heard:
    """What came of a drafter's message."""

    news: bool = False
    """Whether anything in it had not been said before, be it too late by now; a drafter that goes on without is read
    slowly."""
    rejected: list[Rejection] = field(default_factory=list)


class Drafting:
    """Drafters' side of the sessions in a table. Nothing here can end a session or change its text."""

    def __init__(self, table: SessionTable, vocabulary_size: int, switch: Switch, clock: Callable[[], float]) -> None:
        self._table, self._vocabulary_size, self._switch, self._clock = table, vocabulary_size, switch, clock
        self._early: list[tuple[float, Join, DrafterLink]] = []
        self._calibrations: dict[str, Calibration] = {}
        self._merits: dict[str, Merit] = {}
        self.quarantine = Quarantine(clock)

    @property
    def waiting(self) -> bool:
        """Whether a join waits for its session."""
        return bool(self._early)

    def calibration_errors(self) -> dict[str, float]:
        """By drafter, of those that came last."""
        return {name: known.error for name, known in list(self._calibrations.items())[-MOST_NAMES:]}

    def update(self, update: DraftUpdate, link: DrafterLink, unreadable: Sequence[Rejection] = ()) -> Heard:
        """Takes all entries; a bad one costs only that session's drafting by that drafter.

        ``unreadable``: entries of which nothing but the session could be read.
        """
        heard = Heard()
        for join in update.joins:
            heard.news |= self._join(join, link)
        for rejection in unreadable:
            self._malformed(rejection, link, heard)
        total = 0
        for nodes in update.nodes:
            total += len(nodes.columns)
            try:
                require(total <= MAX_NODES_PER_MESSAGE, "nodes", total, f"at most {MAX_NODES_PER_MESSAGE} a message")
                heard.news |= self._merge(nodes, link)
            except FieldError as error:
                rejection = Rejection(nodes.session_id, Status.INVALID_ARGUMENT, str(error))
                self._malformed(rejection, link, heard)
        for complete in update.rounds:
            heard.news |= self._round_complete(complete, link)
        for leave in update.leaves:
            heard.news |= self.leave(leave.session_id, link)
        return heard

    def leave(self, session_id: str, link: DrafterLink) -> bool:
        """This link drafts for the session no more, nor does it wait for it; whether it did."""
        waiting = len(self._early)
        self._early = [item for item in self._early if item[2] is not link or item[1].session_id != session_id]
        session = self._table.get(session_id)
        leaving = [] if session is None else session.attached_by(link)
        for attachment in leaving:
            assert session is not None, "it is what they leave"
            session.detach(attachment.source.drafter_id)
        return bool(leaving) or len(self._early) < waiting

    def lost(self, link: DrafterLink) -> None:
        """A drafter's stream broke: nobody waits for it any more."""
        for session in self._table:
            self.leave(session.session_id, link)
        self._early = [item for item in self._early if item[2] is not link]

    def broken(self, link: DrafterLink, detail: str) -> None:
        """A drafter's stream is about to be ended for malformed framing."""
        there = {item.source.drafter_id for session in self._table for item in session.attached_by(link)}
        for drafter_id in there:
            self._offence(drafter_id, detail)

    def revoke(self, command: RevokeDrafter) -> None:
        """Shows a drafter out of a session, and keeps it out."""
        session = self._table.get(command.session_id)
        if session is None:
            return
        session.revoked.add(command.drafter_id)
        self._show_out(session, command.drafter_id, f"revoked: {command.reason}")

    def session_opened(self, session_id: str) -> None:
        """Lets in the drafters that came before their session."""
        ripe = [item for item in self._early if item[1].session_id == session_id]
        self._early = [item for item in self._early if item[1].session_id != session_id]
        for _, join, link in ripe:
            self._join(join, link)

    def expire(self, now: float) -> None:
        """Refuses joins whose session has not come."""
        late = [item for item in self._early if item[0] <= now]
        if not late:
            return
        self._early = [item for item in self._early if item[0] > now]
        for _, join, link in late:
            detail = f"no session {join.session_id} within {EARLY_JOIN_SECONDS} s"
            link.send(Verdicts(rejected=(Rejection(join.session_id, Status.NOT_FOUND, detail, join.epoch),)))

    def _malformed(self, rejection: Rejection, link: DrafterLink, heard: Heard) -> None:
        """An entry cannot be taken: its session does without this drafter, and after many of them all do."""
        heard.rejected.append(rejection)
        session = self._table.get(rejection.session_id)
        guilty = [] if session is None else session.attached_by(link)
        self.leave(rejection.session_id, link)
        for attachment in guilty:
            attachment.source.rejected += 1
            self._offence(attachment.source.drafter_id, rejection.detail)

    def _offence(self, drafter_id: str, detail: str) -> None:
        if self.quarantine.offence(drafter_id, detail):
            for session in self._table:
                self._show_out(session, drafter_id, self.quarantine.refusal(drafter_id))

    @staticmethod
    def _show_out(session: Session, drafter_id: str, detail: str) -> None:
        attachment = session.attachments.get(drafter_id)
        if attachment:
            rejection = Rejection(session.session_id, Status.PERMISSION_DENIED, detail)
            attachment.link.send(Verdicts(rejected=(rejection,)))
            session.detach(drafter_id)

    def _join(self, join: Join, link: DrafterLink) -> bool:
        """Whether it was let in for the first time, or waits for its session."""
        session = self._table.get(join.session_id)
        if session is None or session.epoch < join.epoch:
            if self._table.ended_lately(join.session_id):
                ended = Rejection(join.session_id, Status.NOT_FOUND, "the session has ended", join.epoch)
                link.send(Verdicts(rejected=(ended,)))
            elif len(self._early) < MAX_ENTRIES:
                self._early.append((self._clock() + EARLY_JOIN_SECONDS, join, link))
                return True
            else:
                full = f"{MAX_ENTRIES} joins wait for their sessions already"
                crowded = Rejection(join.session_id, Status.RESOURCE_EXHAUSTED, full, join.epoch)
                link.send(Verdicts(rejected=(crowded,)))
            return False
        refusal = _refusal(join, session) or self._kept_out(join)
        if refusal:
            if refusal.status is Status.PERMISSION_DENIED:
                REFUSALS.note("join", f"drafter {join.drafter_id[:64]!r}", refusal.detail)
            link.send(Verdicts(rejected=(refusal,)))
            return False
        first = join.drafter_id not in session.attachments and join.drafter_id not in session.gone
        calibration = self._calibrations.setdefault(join.drafter_id, Calibration())
        merit = self._merits.setdefault(join.drafter_id, Merit())
        attachment = session.attach(join.drafter_id, join.incarnation, link, calibration, merit, self._clock())
        attachment.on = self._switch.on(session, attachment)
        attachment.wants_candidates = join.wants_candidates
        shared = join.have_length
        if shared > len(session.tokens) or session.hashes[shared] != join.prefix_hash:
            shared = session.opening.prompt_length
        missing, limit = tuple(session.tokens[shared:]), attachment.source.node_limit(credit=attachment.on)
        link.send(Verdicts(joined=(Joined(session.session_id, session.epoch, shared, missing, limit),)))
        return first

    def _kept_out(self, join: Join) -> Rejection | None:
        detail = self.quarantine.refusal(join.drafter_id)
        return Rejection(join.session_id, Status.PERMISSION_DENIED, detail, join.epoch) if detail else None

    def _merge(self, nodes: DraftNodes, link: DrafterLink) -> bool:
        """Whether any of them had not come before."""
        found = self._attachment(nodes.session_id, nodes.epoch, link)
        if found is None:
            return False
        session, attachment = found
        columns, tree, source = nodes.columns, session.tree, attachment.source
        before, before_node_id = source.proposed, source.last_node_id
        check_columns(columns, source, tree.root.position, self._vocabulary_size)
        added = merge(tree, session.tokens, source, columns, attachment.calibration)
        added = session.admitted_by_grammar(added)
        attachment.merit.sent(source.proposed - before)
        for node in added:
            node.post_verify = session.in_flight
        now = self._clock()
        seconded = _live(source, before_node_id, added)
        arrival = Arrival(now, source.drafter_id, added, nodes.idle_seconds, nodes.busy_seconds, seconded, nodes.growth)
        session.record.add(arrival)
        if added:
            attachment.rhythm.nodes(now, tree.expected_gain(added, session.max_draft_nodes))
        return source.proposed > before

    def _round_complete(self, complete: RoundComplete, link: DrafterLink) -> bool:
        found = self._attachment(complete.session_id, complete.epoch, link)
        if found is None or found[1].complete_root == complete.root_position:
            return False
        found[1].complete_root = complete.root_position
        return True

    def _attachment(self, session_id: str, epoch: int, link: DrafterLink) -> tuple[Session, Attachment] | None:
        """The drafter's place; None when the session has ended or moved on, which is harmless."""
        session = self._table.get(session_id)
        if session is None or session.epoch != epoch:
            return None
        attached = session.attached_by(link)
        return (session, attached[0]) if attached else None


def _live(source: DraftSource, after_node_id: int, added: Sequence[Node]) -> list[Node]:
    """What a source has sent since ``after_node_id`` that is in the tree, but was so before."""
    sent = (source.references.get(node_id) for node_id in range(after_node_id + 1, source.last_node_id + 1))
    new = set(added)
    return [node for node in sent if node is not None and node.state is State.LIVE and node not in new]


def _refusal(join: Join, session: Session) -> Rejection | None:
    def refuse(status: Status, detail: str) -> Rejection:
        return Rejection(join.session_id, status, detail, join.epoch)

    if join.epoch != session.epoch:
        return refuse(Status.FAILED_PRECONDITION, f"epoch = {join.epoch}: expected {session.epoch}")
    key = drafter_key(session.opening.session_secret, join.session_id, join.drafter_id, join.epoch)
    if not hmac.compare_digest(join.key, key):
        return refuse(Status.PERMISSION_DENIED, "key does not belong to this session and drafter")
    if join.drafter_id == SOURCE:
        return refuse(Status.PERMISSION_DENIED, f"drafter_id = {SOURCE!r}: is what the grammar itself proposes")
    if join.drafter_id in session.revoked:
        return refuse(Status.PERMISSION_DENIED, f"drafter {join.drafter_id} is revoked")
    known = session.attachments.get(join.drafter_id) or session.gone.get(join.drafter_id)
    if known and known.source.incarnation > join.incarnation:
        expected = f"at least {known.source.incarnation}"
        return refuse(Status.FAILED_PRECONDITION, f"incarnation = {join.incarnation}: expected {expected}")
    return None
