"""One step: launch with what is ready, decide by the target's own choices, commit."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from paceline.engine.batch import Rows
from paceline.engine.cache import ROOT
from paceline.engine.cache import Sequence as CacheSequence
from paceline.engine.runner import Logits
from paceline.messages import CommittedTokens, SessionEvent
from paceline.speculation.accept import Decision, walk
from paceline.speculation.policy import Mode
from paceline.speculation.sampling import choose
from paceline.speculation.tree import Selection
from verifier_service.outbox import Outbox
from verifier_service.session import Session
from verifier_service.table import SessionTable


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


Plan = list[Entry]


class Stepper:
    """The three parts of a step that are not the forward. ``launch`` and ``commit`` need the verifier's lock."""

    def __init__(self, table: SessionTable, stop_token_ids: Sequence[int], clock: Callable[[], float]) -> None:
        self._table, self._stop, self._clock = table, frozenset(stop_token_ids), clock

    # -- launch --------------------------------------------------------------------------------------------------------

    def launch(self) -> Plan:
        """Admits, then takes every session that is ready and what fits of the prompts; empty: nothing to do yet."""
        now = self._clock()
        self._table.free()
        for session in self._table.admit():
            session.gateway.send([SessionEvent(session.session_id, session.epoch, opened=True)])
            if session.prefilled:
                session.start_decoding(now)
        plan = [*self._decode_entries(now), *self._prefill_entries()]
        for entry in plan:
            entry.session.in_flight, entry.session.launched_at = True, now
        return plan

    def _decode_entries(self, now: float) -> Iterator[Entry]:
        room = self._table.limits.max_rows - len(self._table.running)
        for session in self._table.running.values():
            if session.sequence is None or not session.prefilled or session.seconds_to_wait(now) > 0:
                continue
            session.counters.verifier_wait_seconds += now - session.rooted_at
            session.counters.pre_verify_steps += session.mode is Mode.OVERLAPPED and bool(session.attachments)
            selection = session.select(room)
            room -= len(selection.nodes)
            yield Entry(session, session.sequence, (session.tree.root.token_id, *selection.token_ids), selection)

    def _prefill_entries(self) -> Iterator[Entry]:
        """Chunks of the prompts that are not computed yet, oldest session first, as far as the chunk size goes."""
        room = self._table.limits.prefill_chunk
        for session in self._table.running.values():
            sequence = session.sequence
            if sequence is None or session.prefilled:
                continue
            start = sequence.num_computed_tokens
            chunk = session.tokens[start : min(start + room, len(session.tokens) - 1)]
            yield Entry(session, sequence, chunk, None)
            room -= len(chunk)
            if room <= 0:
                return

    # -- decide --------------------------------------------------------------------------------------------------------

    def decide(self, plan: Plan, logits: Sequence[Logits]) -> list[Decision | None]:
        """What each session's rows mean; None for a chunk of prefill."""
        return [self._decide(entry, rows) for entry, rows in zip(plan, logits, strict=True)]

    def _decide(self, entry: Entry, logits: Logits) -> Decision | None:
        if entry.selection is None:
            return None
        session, nodes = entry.session, entry.selection.nodes
        sampling, root_position = session.opening.sampling, session.tree.root.position

        def choice(row: int) -> int:
            position = nodes[row - 1].position if row else root_position
            return choose(logits[row], sampling, session.noise, position + 1)

        own = sampling.stop_token_ids
        stop = frozenset(own) if sampling.ignore_eos else self._stop.union(own)
        return walk(entry.token_ids, (ROOT, *entry.selection.parents), choice, stop, session.room)

    # -- commit --------------------------------------------------------------------------------------------------------

    def commit(self, plan: Plan, decisions: Sequence[Decision | None]) -> Outbox:
        """Makes the decisions part of the texts; returns what there is to tell."""
        outbox, now = Outbox(), self._clock()
        for entry, decision in zip(plan, decisions, strict=True):
            session = entry.session
            session.in_flight = False
            if session.ended:  # aborted meanwhile
                self._table.release(session)
            elif decision is None or entry.selection is None:
                entry.sequence.keep(range(len(entry.token_ids)), commit=len(entry.token_ids))
                if session.prefilled:
                    session.start_decoding(now)
            else:
                self._commit_tokens(entry, entry.selection, decision, now, outbox)
        return outbox

    def _commit_tokens(
        self, entry: Entry, selection: Selection, decision: Decision, now: float, outbox: Outbox
    ) -> None:
        session, rows = entry.session, (0, *decision.accepted_rows)
        session.counters.step_seconds += now - session.launched_at
        entry.sequence.keep(rows, commit=len(rows))
        position = len(session.tokens)
        session.commit(selection, decision, now)
        ended = session.ended is not None
        event = SessionEvent(
            session.session_id,
            session.epoch,
            committed=CommittedTokens(position, decision.token_ids, session.hashes[-1]),
            finish_reason=session.ended,
            usage=session.usage() if ended else None,
            overlap=session.statistics() if ended else None,
        )
        outbox.event(session.gateway, event)
        for attachment in session.attachments.values():
            outbox.verdict(attachment.link, session.verdict(attachment, position, decision.token_ids))
        if ended:
            self._table.forget(session)
