"""The drafter's logic, without transport: sessions are attached, verdicts come in, draft updates go out.

Attach, detach and verdicts may come from any thread and are only noted; ``grow`` is called by the one thread that owns
the device, takes note of them, and adds the next nodes.
"""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Callable
from dataclasses import replace
from typing import Protocol

from drafter_service.counts import Counts
from drafter_service.drafters.base import DraftKind
from drafter_service.session import DraftSession
from drafter_service.tracing import DraftSpans
from paceline.errors import Draining, FailedPrecondition, ResourceExhausted
from paceline.logs import get_logger
from paceline.messages import (
    Attach,
    Attached,
    AttachEvent,
    Detached,
    DraftNodes,
    DraftUpdate,
    Join,
    Joined,
    Leave,
    Propose,
    Rejection,
    RoundComplete,
    Verdict,
    Verdicts,
)
from paceline.speculation.fields import require
from paceline.speculation.merge import CREDIT
from paceline.speculation.policy import Mode
from paceline.telemetry import OFF, trace_id_of

logger = get_logger(__name__)


class VerifierLink(Protocol):
    """Takes updates for one verifier; may be called from any thread and never blocks."""

    def send(self, update: DraftUpdate) -> None: ...


Observer = Callable[[AttachEvent], None]


class _Listener:
    """A link to whoever asked for a proposal; it has no use for joins and leaves."""

    def __init__(self, take: Callable[[DraftUpdate], object]) -> None:
        self._take = take

    def send(self, update: DraftUpdate) -> None:
        if update.nodes or update.rounds:
            self._take(update)


class Membership:
    """A session with the link it is drafted for and the gateway that watches it."""

    def __init__(self, session: DraftSession, link: VerifierLink, observer: Observer, spans: DraftSpans) -> None:
        self.session, self.link, self.observer, self.spans = session, link, observer, spans
        self.over = False

    @property
    def about(self) -> dict[str, object]:
        """What its log lines are about."""
        attach = self.session.attach
        return {"session": attach.session_id, "epoch": attach.epoch, "trace_id": trace_id_of(attach.traceparent)}


class Drafter:
    """Sessions of one kind of drafter, and the growth of their trees."""

    def __init__(
        self,
        kind: DraftKind,
        *,
        drafter_id: str,
        vocabulary_size: int,
        max_context: int,
        max_sessions: int = 256,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.kind, self.drafter_id, self._clock = kind, drafter_id, clock
        self.vocabulary_size, self.max_context, self.max_sessions = vocabulary_size, max_context, max_sessions
        self.incarnation = time.time_ns()
        """Of the process; each attached session has its own, later one."""
        self.telemetry, self.counts = OFF, Counts()
        self.changed = threading.Condition()
        self._news: list[Callable[[], None]] = []
        self.attached_sessions = 0
        self._draining = False
        self._members: dict[str, Membership] = {}
        self._newest: dict[str, Membership] = {}
        """By session: whose join was sent last; its start may not be noted yet."""

    # -- from any thread -----------------------------------------------------------------------------------------------

    def attach(self, attach: Attach, link: VerifierLink, observer: Observer) -> Membership:
        """Starts drafting for a session; ``observer`` hears when the verifier has let it in and when it is over."""
        if self._draining:
            raise Draining(f"{self.drafter_id} is draining")
        self._check(attach)
        if self.attached_sessions >= self.max_sessions:
            raise ResourceExhausted(f"{self.drafter_id} drafts for {self.attached_sessions} sessions already")
        session = DraftSession(attach, self.vocabulary_size, self.max_context)
        member = Membership(session, link, observer, DraftSpans(self.telemetry.tracer, attach, self.drafter_id))
        join = self._join(session)
        self.attached_sessions += 1
        with self.changed:
            self._newest[session.session_id] = member
            self._note(lambda: self._start(member))
            link.send(DraftUpdate(joins=(join,)))  # after the note: the answer must find the session
        return member

    def propose(self, request: Propose, take: Callable[[DraftUpdate], object], observer: Observer) -> Membership:
        """Drafts one lockstep round for given tokens, without a verifier; ``take`` gets nodes and the round's end.

        ``observer`` hears if nothing comes of it. To be detached when it is no longer wanted.
        """
        session_id = f"propose-{uuid.uuid4().hex}"
        attach = Attach(
            session_id=session_id,
            epoch=1,
            verifier="",
            token_ids=request.token_ids,
            prompt_length=len(request.token_ids),
            sampling=request.sampling,
            speculation=replace(request.speculation, mode=Mode.LOCKSTEP),
            noise_key=request.noise_key,
            key=b"",
        )
        link = _Listener(take)
        member = self.attach(attach, link, observer)
        joined = Joined(session_id, 1, len(request.token_ids), (), CREDIT)
        self.receive(Verdicts(joined=(joined,)), link)
        return member

    def detach(self, member: Membership) -> None:
        """Stops drafting for a session, if it still goes on."""
        self._note(lambda: self._leave(member, "detached"))

    def drain(self) -> None:
        """Takes no more sessions and leaves those that there are: others take its place."""
        self._draining = True
        self._note(self._leave_all)

    def receive(self, verdicts: Verdicts, link: VerifierLink) -> None:
        """Takes a verifier's message."""
        self._note(lambda: self._apply(verdicts, link))

    def link_lost(self, link: VerifierLink) -> None:
        """The stream to a verifier broke: its sessions are over for us."""
        self._note(lambda: self._drop(link))

    def _join(self, session: DraftSession) -> Join:
        return session.join(self.drafter_id, wants_candidates=self.kind.wants_candidates)

    def _check(self, attach: Attach) -> None:
        length, wanted = len(attach.token_ids), attach.sampling.max_tokens
        require(length > 0, "token_ids", length, "at least one token")
        require(1 <= attach.prompt_length <= length, "prompt_length", attach.prompt_length, f"1 to {length}")
        left = wanted is None or attach.prompt_length + wanted > length
        require(left, "max_tokens", wanted, f"more than the {length - attach.prompt_length} tokens already committed")
        largest, size = max(attach.token_ids), self.vocabulary_size
        require(not size or largest < size, "token_ids", largest, f"ids below the vocabulary's size {size}")
        biased = max((token_id for token_id, _ in attach.sampling.logit_bias), default=0)
        require(not size or biased < size, "logit_bias", biased, f"ids below the vocabulary's size {size}")
        if len(attach.token_ids) >= self.max_context:
            raise FailedPrecondition(f"{len(attach.token_ids)} tokens do not fit the draft context {self.max_context}")

    def _note(self, news: Callable[[], None]) -> None:
        with self.changed:
            self._news.append(news)
            self.changed.notify()

    # -- the growing thread --------------------------------------------------------------------------------------------

    def grow(self) -> bool:
        """Takes note of the news, grows once, sends what is new; whether there was anything to do."""
        with self.changed:
            news, self._news = self._news, []
        for item in news:
            item()
        sessions = [member.session for member in self._growing()]
        if sessions:
            started = self._clock()
            for session in sessions:
                session.about_to_grow(started)
            self.kind.grow(sessions)
            took = self._clock() - started
            share = took / len(sessions)
            self.counts.growths += 1
            self.counts.grown_sessions += len(sessions)
            self.counts.busy_seconds += took
            for session in sessions:
                session.busy_seconds += share
        self._send()
        return bool(sessions or news)

    def _growing(self) -> list[Membership]:
        """Those to which something can be added; the others' idle time is noted."""
        now, growing = self._clock(), []
        for member in list(self._members.values()):
            grows = member.session.may_grow and self._growable(member)
            if member.session.joined:
                member.session.idle.note(now, idle=not grows)
            if grows:
                growing.append(member)
        return growing

    def _growable(self, member: Membership) -> bool:
        """Whether its kind can add something; a session that has become too long for it is left."""
        try:
            return self.kind.growable(member.session)
        except ResourceExhausted as error:
            self._leave(member, str(error))
            return False

    work = grow
    """As the device's loop calls it."""

    def wait_seconds(self) -> float | None:
        """0 when there is something to take note of, else until there is; called with the lock held."""
        return 0.0 if self._news else None

    def _start(self, member: Membership) -> None:
        session = member.session
        stale = self._members.pop(session.session_id, None)
        if stale:
            self._finish(stale, "replaced")
        self._members[session.session_id] = member
        try:
            self.kind.open(session)
        except ResourceExhausted as error:
            self._leave(member, str(error))

    def _leave(self, member: Membership, reason: str) -> None:
        if member.over:
            return
        session_id = member.session.session_id
        with self.changed:  # after a newer join on the same link, leaving would be taken for its
            newest = self._newest.get(session_id, member)
            if newest is member or newest.link is not member.link:
                member.link.send(DraftUpdate(leaves=(Leave(session_id),)))
        self._finish(member, reason)

    def _leave_all(self) -> None:
        for member in list(self._members.values()):
            self._leave(member, "draining")

    def _drop(self, link: VerifierLink) -> None:
        for member in [m for m in self._members.values() if m.link is link]:
            self._finish(member, "the stream to the verifier broke")

    def _finish(self, member: Membership, reason: str) -> None:
        session = member.session
        session.idle.note(self._clock(), idle=False)
        link = self.counts.links.of(session.attach.verifier)
        link.idle_seconds += session.idle.take()
        link.busy_seconds += session.take_busy_seconds()
        self.kind.close(session)
        if self._members.get(session.session_id) is member:
            del self._members[session.session_id]
        if self._newest.get(session.session_id) is member:
            del self._newest[session.session_id]
        member.over = True
        member.spans.end(reason)
        self.attached_sessions -= 1
        logger.debug("a session is left", reason=reason, **member.about)
        member.observer(Detached(reason))

    def _apply(self, verdicts: Verdicts, link: VerifierLink) -> None:
        for joined in verdicts.joined:
            self._joined(joined, link)
        for verdict in verdicts.verdicts:
            self._advance(verdict, link)
        for rejection in verdicts.rejected:
            self._rejected(rejection, link)

    def _member(self, session_id: str, epoch: int | None, link: VerifierLink) -> Membership | None:
        member = self._members.get(session_id)
        if member is None or member.link is not link:
            return None
        return member if epoch is None or member.session.attach.epoch == epoch else None

    def _joined(self, joined: Joined, link: VerifierLink) -> None:
        member = self._member(joined.session_id, joined.epoch, link)
        if member is None:  # over before it began: nobody shall wait for us there
            link.send(DraftUpdate(leaves=(Leave(joined.session_id),)))
            return
        if not self._knows(joined.token_ids, member):
            return
        session = member.session
        if joined.position != len(session.tokens):
            session.replace(joined.position, joined.token_ids)
            self.kind.rewind(session, joined.position)
        elif joined.token_ids:
            session.extend(joined.token_ids)
            self.kind.advance(session)
        session.joined, session.node_limit = True, joined.node_limit
        member.spans.joined()
        member.observer(Attached(joined.node_limit))

    def _advance(self, verdict: Verdict, link: VerifierLink) -> None:
        member = self._member(verdict.session_id, verdict.epoch, link)
        if member is None:
            return
        session = member.session
        if verdict.ended:
            known = len(session.tokens) - verdict.position
            if session.joined and known >= 0:  # nothing is drafted any more, but a kind may keep what was said
                session.extend(verdict.token_ids[known:])
            self._finish(member, "the session has ended")
            return
        session.node_limit = verdict.node_limit
        if verdict.mode is not None:
            session.mode = verdict.mode
        known = len(session.tokens) - verdict.position
        if known >= len(verdict.token_ids) > 0 or not session.joined:
            return  # heard before, or part of the answer to a join that is on its way
        if known < 0:
            session.joined = False
            link.send(DraftUpdate(joins=(self._join(session),)))
            return
        if not self._knows(verdict.token_ids, member):
            return
        session.extend(verdict.token_ids[known:])
        self.kind.advance(session)
        if verdict.candidates:
            self.kind.learn(session, verdict.candidates, verdict.beside)
        if session.hash != verdict.prefix_hash:
            self._leave(member, "prefix hash differs from the verifier's")

    def _knows(self, token_ids: tuple[int, ...], member: Membership) -> bool:
        """Whether our vocabulary has these tokens; a target's padded one may be larger."""
        if not self.vocabulary_size or not token_ids or max(token_ids) < self.vocabulary_size:
            return True
        self._leave(member, f"token {max(token_ids)} is outside the vocabulary of {self.vocabulary_size}")
        return False

    def _rejected(self, rejection: Rejection, link: VerifierLink) -> None:
        member = self._member(rejection.session_id, rejection.epoch or None, link)
        if member:
            logger.warning(
                "a session is refused", status=rejection.status.name, detail=rejection.detail, **member.about
            )
            self._finish(member, f"{rejection.status.name}: {rejection.detail}")

    def _send(self) -> None:
        """At most one message per link and growth; in lockstep one per round."""
        updates: dict[int, tuple[VerifierLink, list[DraftNodes], list[RoundComplete]]] = {}
        for member in list(self._members.values()):
            session = member.session
            if not session.joined or session.mode is Mode.OFF:
                continue
            _, nodes, rounds = updates.setdefault(id(member.link), (member.link, [], []))
            epoch, link_counts = session.attach.epoch, self.counts.links.of(session.attach.verifier)
            if session.mode is Mode.LOCKSTEP:
                if session.round_complete or (session.may_grow and self._growable(member)):
                    continue
                session.round_complete = True
                rounds.append(RoundComplete(session.session_id, epoch, session.tree.root.position))
                link_counts.rounds += 1
            columns = session.take_unsent()
            if columns is not None:
                idle, busy = session.idle.take(), session.take_busy_seconds()
                growth = session.take_growth(self._clock())
                link_counts.entries += 1
                link_counts.nodes += len(columns)
                link_counts.idle_seconds += idle
                link_counts.busy_seconds += busy
                message = DraftNodes(session.session_id, epoch, columns, idle, busy, growth)
                nodes.append(member.spans.sent(message))
        for link, nodes, rounds in updates.values():
            if nodes or rounds:
                link.send(DraftUpdate(nodes=tuple(nodes), rounds=tuple(rounds)))
