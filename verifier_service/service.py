"""The verifier's logic, without transport: commands and drafts come in, steps go out.

Commands and draft updates may come from any thread; ``step`` is called by the one thread that owns the device. The
lock is held for bookkeeping only, never during a forward.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from paceline.engine.batch import Rows
from paceline.engine.cache import ROOT
from paceline.engine.cache import Sequence as CacheSequence
from paceline.engine.runner import Logits, ModelRunner
from paceline.errors import FieldError
from paceline.messages import (
    AbortSession,
    AuthorizeDrafter,
    ChangeSession,
    CommittedTokens,
    DecodeCommand,
    DraftNodes,
    DraftUpdate,
    FinishReason,
    Join,
    Joined,
    ModelInfo,
    OpenSession,
    Rejection,
    RevokeDrafter,
    RoundComplete,
    SessionEvent,
    Status,
    Verdict,
    Verdicts,
    drafter_key,
)
from paceline.speculation.accept import Decision, walk
from paceline.speculation.fields import require
from paceline.speculation.merge import MAX_NODES_PER_MESSAGE, check_columns, merge
from paceline.speculation.policy import Mode
from paceline.speculation.sampling import choose
from paceline.speculation.tree import Selection
from verifier_service.mailbox import Outbox
from verifier_service.session import Attachment, DrafterLink, GatewayLink, Session

EARLY_JOIN_SECONDS = 2.0
TOMBSTONE_SECONDS = 60.0
MAX_TAIL = 257
"""The root and the largest ``max_draft_nodes``."""
_POLL_SECONDS = 0.002


@dataclass(frozen=True)
class Limits:
    """How much a verifier takes on."""

    max_sessions: int = 64
    max_waiting: int = 256
    prefill_chunk: int = 256


@dataclass(frozen=True)
class Entry:
    """One session's part of a step: a chunk of its prompt, or its root with the selected nodes."""

    session: Session
    sequence: CacheSequence
    token_ids: Sequence[int]
    selection: Selection | None

    def rows(self) -> Rows:
        if self.selection is None:
            return Rows(self.sequence, self.token_ids)
        return Rows(self.sequence, self.token_ids, (ROOT, *self.selection.parents))


class Verifier:
    """Sessions of one target model and the steps that move them on."""

    def __init__(
        self, runner: ModelRunner, model: ModelInfo, limits: Limits, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.model, self.limits = model, limits
        self.changed = threading.Condition()
        self.steps = 0
        self._runner, self._clock = runner, clock
        self._sessions: dict[str, Session] = {}
        self._running: dict[str, Session] = {}
        self._waiting: deque[Session] = deque()
        self._early_joins: list[tuple[float, Join, DrafterLink]] = []
        self._tombstones: dict[str, float] = {}
        self._freed: list[CacheSequence] = []
        self._stop = frozenset(model.stop_token_ids)
        self._news = False

    # -- what gateways say ---------------------------------------------------------------------------------------------

    def command(self, command: DecodeCommand, gateway: GatewayLink) -> None:
        """Carries out a gateway's command; a refused one answers with a rejection event."""
        with self.changed:
            match command:
                case OpenSession():
                    self._open(command, gateway)
                case AbortSession():
                    session = self._sessions.get(command.session_id)
                    if session and session.epoch == command.epoch:
                        self._end(session, FinishReason.ABORT)
                case AuthorizeDrafter():
                    if session := self._sessions.get(command.session_id):
                        session.revoked.discard(command.drafter_id)
                case RevokeDrafter():
                    self._revoke(command)
                case ChangeSession():
                    self._change(command)
            self._wake()

    def gateway_lost(self, gateway: GatewayLink) -> None:
        """A gateway's stream broke: its sessions end."""
        with self.changed:
            for session in [s for s in self._sessions.values() if s.gateway is gateway]:
                self._end(session, FinishReason.ABORT)
            self._wake()

    def _open(self, opening: OpenSession, gateway: GatewayLink) -> None:
        try:
            self._check(opening)
        except FieldError as error:
            self._reject(opening, gateway, Status.INVALID_ARGUMENT, str(error))
            return
        known = self._sessions.get(opening.session_id)
        if known and known.epoch >= opening.epoch:
            detail = f"session {opening.session_id} is already open with epoch {known.epoch}"
            self._reject(opening, gateway, Status.FAILED_PRECONDITION, detail)
            return
        if len(self._waiting) >= self.limits.max_waiting:
            detail = f"{len(self._waiting)} sessions are waiting already"
            self._reject(opening, gateway, Status.RESOURCE_EXHAUSTED, detail)
            return
        if known:
            self._end(known, FinishReason.ABORT)
        session = Session(opening, gateway, self.model.vocabulary_size, self.model.max_context)
        self._tombstones.pop(opening.session_id, None)
        self._sessions[opening.session_id] = session
        self._waiting.append(session)
        self._admit_early_joins(opening.session_id)

    def _check(self, opening: OpenSession) -> None:
        length, context = len(opening.token_ids), self.model.max_context
        require(bool(opening.session_id), "session_id", opening.session_id, "a non-empty string")
        require(length >= 1, "token_ids", length, "at least one token")
        require(1 <= opening.prompt_length <= length, "prompt_length", opening.prompt_length, f"1 to {length}")
        require(length < context, "token_ids", f"{length} tokens", f"fewer than the context's {context}")
        largest = max(opening.token_ids)
        require(largest < self.model.vocabulary_size, "token_ids", largest, f"below {self.model.vocabulary_size}")
        wanted = opening.sampling.max_tokens
        left = wanted is None or opening.prompt_length + wanted > length
        require(left, "max_tokens", wanted, f"more than the {length - opening.prompt_length} tokens already committed")
        pool = self._runner.cache.pool
        size = pool.num_blocks * pool.block_size - MAX_TAIL - pool.block_size
        require(length <= size, "token_ids", f"{length} tokens", f"at most {size}, the KV cache's size")

    def _reject(self, opening: OpenSession, gateway: GatewayLink, status: Status, detail: str) -> None:
        rejection = Rejection(opening.session_id, status, detail)
        gateway.send([SessionEvent(opening.session_id, opening.epoch, rejected=rejection)])

    def _revoke(self, command: RevokeDrafter) -> None:
        session = self._sessions.get(command.session_id)
        if session is None:
            return
        session.revoked.add(command.drafter_id)
        attachment = session.attachments.get(command.drafter_id)
        if attachment:
            detail = f"revoked: {command.reason}"
            attachment.link.send(Verdicts(rejected=(Rejection(session.session_id, Status.PERMISSION_DENIED, detail),)))
            session.detach(command.drafter_id)

    def _change(self, command: ChangeSession) -> None:
        session = self._sessions.get(command.session_id)
        if session is None:
            return
        if command.mode is not None:
            session.mode = command.mode
        if command.max_draft_nodes is not None:
            session.max_draft_nodes = min(command.max_draft_nodes, MAX_TAIL - 1)

    def _end(self, session: Session, reason: FinishReason) -> None:
        """Ends a session from outside; its blocks are freed by the device's thread before its next step."""
        session.ended = reason
        self._forget(session)
        self._tell_drafters(session, len(session.tokens), ())

    def _forget(self, session: Session) -> None:
        self._sessions.pop(session.session_id, None)
        self._running.pop(session.session_id, None)
        if session in self._waiting:
            self._waiting.remove(session)
        self._bury(session.session_id)
        if session.sequence is not None and not session.in_flight:
            self._freed.append(session.sequence)
            session.sequence = None

    def _bury(self, session_id: str) -> None:
        """Remembers an ended session for a while, so that what still comes for it is not taken for an early join."""
        now = self._clock()
        self._tombstones[session_id] = now + TOMBSTONE_SECONDS
        while self._tombstones:
            oldest = next(iter(self._tombstones))
            if self._tombstones[oldest] > now:
                break
            del self._tombstones[oldest]

    # -- what drafters say ---------------------------------------------------------------------------------------------

    def update(self, update: DraftUpdate, link: DrafterLink) -> None:
        """Takes joins and nodes; a bad entry costs only that session's drafting by that drafter."""
        rejected: list[Rejection] = []
        with self.changed:
            for join in update.joins:
                self._join(join, link)
            total = 0
            for nodes in update.nodes:
                total += len(nodes.columns)
                try:
                    require(
                        total <= MAX_NODES_PER_MESSAGE, "nodes", total, f"at most {MAX_NODES_PER_MESSAGE} a message"
                    )
                    self._merge(nodes, link)
                except FieldError as error:
                    self._quarantine(nodes.session_id, link)
                    rejected.append(Rejection(nodes.session_id, Status.INVALID_ARGUMENT, str(error)))
            for complete in update.rounds:
                self._round_complete(complete, link)
            for leave in update.leaves:
                self._quarantine(leave.session_id, link)
            self._wake()
        if rejected:
            link.send(Verdicts(rejected=tuple(rejected)))

    def reject_drafting(self, rejection: Rejection, link: DrafterLink) -> None:
        """An entry could not even be read: its session does without this drafter."""
        with self.changed:
            self._quarantine(rejection.session_id, link)
            self._wake()
        link.send(Verdicts(rejected=(rejection,)))

    def drafter_lost(self, link: DrafterLink) -> None:
        """A drafter's stream broke: nobody waits for it any more."""
        with self.changed:
            for session in self._sessions.values():
                self._quarantine(session.session_id, link)
            self._early_joins = [item for item in self._early_joins if item[2] is not link]
            self._wake()

    def _quarantine(self, session_id: str, link: DrafterLink) -> None:
        session = self._sessions.get(session_id)
        if session:
            for drafter_id in [key for key, item in session.attachments.items() if item.link is link]:
                session.detach(drafter_id)

    def _join(self, join: Join, link: DrafterLink) -> None:
        session = self._sessions.get(join.session_id)
        if session is None or session.epoch < join.epoch:
            if join.session_id in self._tombstones:
                link.send(Verdicts(rejected=(Rejection(join.session_id, Status.NOT_FOUND, "the session has ended"),)))
            else:
                self._early_joins.append((self._clock() + EARLY_JOIN_SECONDS, join, link))
            return
        refusal = self._refusal(join, session)
        if refusal:
            link.send(Verdicts(rejected=(refusal,)))
            return
        source = session.source_for(join.drafter_id)
        if source.incarnation != join.incarnation:
            source.restart(join.incarnation)
        session.attachments[join.drafter_id] = Attachment(source, link)
        shared = join.have_length
        if shared > len(session.tokens) or session.hashes[shared] != join.prefix_hash:
            shared = session.opening.prompt_length
        missing = tuple(session.tokens[shared:])
        link.send(Verdicts(joined=(Joined(session.session_id, session.epoch, shared, missing, source.node_limit),)))

    def _refusal(self, join: Join, session: Session) -> Rejection | None:
        if join.epoch != session.epoch:
            return Rejection(
                join.session_id, Status.FAILED_PRECONDITION, f"epoch = {join.epoch}: expected {session.epoch}"
            )
        if join.key != drafter_key(session.opening.session_secret, join.session_id, join.drafter_id, join.epoch):
            return Rejection(
                join.session_id, Status.PERMISSION_DENIED, "key does not belong to this session and drafter"
            )
        if join.drafter_id in session.revoked:
            return Rejection(join.session_id, Status.PERMISSION_DENIED, f"drafter {join.drafter_id} is revoked")
        known = session.gone_sources.get(join.drafter_id)
        if known and known.incarnation > join.incarnation:
            detail = f"incarnation = {join.incarnation}: expected at least {known.incarnation}"
            return Rejection(join.session_id, Status.FAILED_PRECONDITION, detail)
        return None

    def _admit_early_joins(self, session_id: str) -> None:
        ripe = [item for item in self._early_joins if item[1].session_id == session_id]
        self._early_joins = [item for item in self._early_joins if item[1].session_id != session_id]
        for _, join, link in ripe:
            self._join(join, link)

    def _expire_joins(self, now: float) -> None:
        late = [item for item in self._early_joins if item[0] <= now]
        if late:
            self._early_joins = [item for item in self._early_joins if item[0] > now]
        for _, join, link in late:
            detail = f"no session {join.session_id} within {EARLY_JOIN_SECONDS} s"
            link.send(Verdicts(rejected=(Rejection(join.session_id, Status.NOT_FOUND, detail),)))

    def _attachment(self, session_id: str, epoch: int, link: DrafterLink) -> tuple[Session, Attachment] | None:
        session = self._sessions.get(session_id)
        if session is None or session.epoch != epoch:
            return None  # ended or moved on: counted by nobody, harmless
        for attachment in session.attachments.values():
            if attachment.link is link:
                return session, attachment
        return None

    def _merge(self, nodes: DraftNodes, link: DrafterLink) -> None:
        found = self._attachment(nodes.session_id, nodes.epoch, link)
        if found is None:
            return
        session, attachment = found
        columns, tree = nodes.columns, session.tree
        check_columns(columns, attachment.source, tree.root.position, self.model.vocabulary_size)
        added = merge(tree, session.tokens, attachment.source, columns)
        for node in added:
            node.post_verify = session.in_flight
        if added:
            attachment.rhythm.nodes(self._clock(), tree.expected_gain(added, session.max_draft_nodes))

    def _round_complete(self, complete: RoundComplete, link: DrafterLink) -> None:
        found = self._attachment(complete.session_id, complete.epoch, link)
        if found:
            found[1].complete_root = complete.root_position

    # -- steps ---------------------------------------------------------------------------------------------------------

    def step(self) -> bool:
        """Launches a step with what is ready, if anything is, and publishes what it decided."""
        with self.changed:
            plan = self._launch(self._clock())
        if not plan:
            return False
        logits = self._runner.forward([entry.rows() for entry in plan])
        decisions = self._decide(plan, logits)
        with self.changed:
            outbox = self._commit(plan, decisions)
        outbox.send()
        return True

    def wait_seconds(self) -> float | None:
        """How long the step loop may sleep unless something changes; None: until it does. Called with the lock."""
        if self._news:
            return 0.0
        if any(not session.in_flight for session in self._running.values()):
            return _POLL_SECONDS
        return 0.5 if self._early_joins else None

    def _wake(self) -> None:
        self._news = True
        self.changed.notify()

    def _launch(self, now: float) -> list[Entry]:
        self._news = False
        self._free()
        self._expire_joins(now)
        self._admit()
        plan = [entry for entry in (self._decode_entry(s, now) for s in self._running.values()) if entry]
        plan.extend(self._prefill_entries())
        for entry in plan:
            entry.session.in_flight, entry.session.launched_at = True, now
        self.steps += bool(plan)
        return plan

    def _free(self) -> None:
        for sequence in self._freed:
            sequence.close()
        self._freed.clear()

    def _admit(self) -> None:
        pool = self._runner.cache.pool
        while self._waiting and len(self._running) < self.limits.max_sessions:
            session = self._waiting[0]
            capacity = min(session.length_limit, pool.num_blocks * pool.block_size - MAX_TAIL) + MAX_TAIL
            if -(-capacity // pool.block_size) > pool.free:
                break
            session.sequence = self._runner.open(capacity, MAX_TAIL)
            session.length_limit = min(session.length_limit, capacity - MAX_TAIL)
            self._running[session.session_id] = self._waiting.popleft()
            session.gateway.send([SessionEvent(session.session_id, session.epoch, opened=True)])
            if session.prefilled:
                session.start_decoding(self._clock())

    def _decode_entry(self, session: Session, now: float) -> Entry | None:
        if session.sequence is None or not session.prefilled or not session.ready(now):
            return None
        counters = session.counters
        counters.verifier_wait_seconds += now - session.rooted_at
        growing = session.mode is Mode.OVERLAPPED and bool(session.attachments)
        counters.pre_verify_steps += growing
        selection = session.select()
        return Entry(session, session.sequence, (session.tree.root.token_id, *selection.token_ids), selection)

    def _prefill_entries(self) -> Iterator[Entry]:
        """Chunks of the prompts that are not computed yet, oldest session first, as far as the chunk size goes."""
        room = self.limits.prefill_chunk
        for session in self._running.values():
            sequence = session.sequence
            if sequence is None or session.prefilled:
                continue
            start = sequence.num_computed_tokens
            chunk = session.tokens[start : min(start + room, len(session.tokens) - 1)]
            yield Entry(session, sequence, chunk, None)
            room -= len(chunk)
            if room <= 0:
                return

    def _decide(self, plan: Sequence[Entry], logits: Sequence[Logits]) -> list[Decision | None]:
        return [self._decide_one(entry, rows) for entry, rows in zip(plan, logits, strict=True)]

    def _decide_one(self, entry: Entry, logits: Logits) -> Decision | None:
        """The session's decision; None for a chunk of prefill."""
        if entry.selection is None:
            return None
        session, selection = entry.session, entry.selection
        sampling, root_position = session.opening.sampling, session.tree.root.position
        positions = [root_position, *(node.position for node in selection.nodes)]

        def choice(row: int) -> int:
            return choose(logits[row], sampling, session.noise, positions[row] + 1)

        stop = set(sampling.stop_token_ids) if sampling.ignore_eos else self._stop.union(sampling.stop_token_ids)
        return walk(entry.token_ids, (ROOT, *selection.parents), choice, stop, session.room)

    def _commit(self, plan: Sequence[Entry], decisions: Sequence[Decision | None]) -> Outbox:
        outbox, now = Outbox(), self._clock()
        for entry, decision in zip(plan, decisions, strict=True):
            session, sequence = entry.session, entry.sequence
            session.in_flight = False
            if session.ended:  # aborted meanwhile
                session.sequence = None
                self._freed.append(sequence)
                continue
            if decision is None or entry.selection is None:
                sequence.keep(range(len(entry.token_ids)), commit=len(entry.token_ids))
                if session.prefilled:
                    session.start_decoding(now)
                continue
            session.counters.step_seconds += now - session.launched_at
            rows = (0, *decision.accepted_rows)
            sequence.keep(rows, commit=len(rows))
            position = len(session.tokens)
            session.commit(entry.selection, decision, now)
            outbox.event(session, self._event(session, position, decision))
            self._tell_drafters(session, position, decision.token_ids, outbox)
            if session.ended:
                self._forget(session)
        return outbox

    def _event(self, session: Session, position: int, decision: Decision) -> SessionEvent:
        ended = session.ended is not None
        return SessionEvent(
            session.session_id,
            session.epoch,
            committed=CommittedTokens(position, decision.token_ids, session.hashes[-1]),
            finish_reason=session.ended,
            usage=session.usage() if ended else None,
            overlap=session.statistics() if ended else None,
        )

    def _tell_drafters(
        self, session: Session, position: int, token_ids: Sequence[int], outbox: Outbox | None = None
    ) -> None:
        for attachment in session.attachments.values():
            verdict = Verdict(
                session_id=session.session_id,
                epoch=session.epoch,
                position=position,
                token_ids=tuple(token_ids),
                prefix_hash=session.hashes[-1],
                ended=session.ended is not None,
                node_limit=attachment.source.node_limit,
            )
            if outbox is None:
                attachment.link.send(Verdicts(verdicts=(verdict,)))
            else:
                outbox.verdict(attachment.link, verdict)

    @property
    def busy(self) -> bool:
        """Whether any session is running or waiting, or blocks are still to be freed."""
        return bool(self._sessions or self._freed)

    # -- what others may know ------------------------------------------------------------------------------------------

    def load(self) -> tuple[int, int, int, int]:
        """Running and waiting sessions, free and total blocks."""
        with self.changed:
            pool = self._runner.cache.pool
            return len(self._running), len(self._waiting), pool.free, pool.num_blocks
