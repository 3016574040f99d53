"""What a step computes: roots, their nodes, and chunks of prompts, within its budget of rows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from paceline.engine.batch import Rows
from paceline.engine.cache import ROOT
from paceline.engine.cache import Sequence as CacheSequence
from paceline.speculation.cost import CostCurve, nodes_that_pay
from paceline.speculation.policy import Mode
from paceline.speculation.schedule import share_prefill
from paceline.speculation.select import select_across, select_alone
from paceline.speculation.tree import Selection
from verifier_service.grammar.masks import Constrained
from verifier_service.session import Session
from verifier_service.table import SessionTable


@dataclass(frozen=True)
class Entry:
    """One session's part of a step: a chunk of its prompt, or its root with the selected nodes.

    The last chunk of a prompt ends with the root, so that the first token comes with it.
    """

    session: Session
    sequence: CacheSequence
    token_ids: Sequence[int]
    selection: Selection | None

    @property
    def reaches_root(self) -> bool:
        """Whether the last row, or the first of a selection, is the session's root."""
        return self.selection is not None or len(self.token_ids) == self.session.missing

    def constrained(self) -> Constrained | None:
        """The root and what is below it, if a grammar says what may follow them."""
        matcher = self.session.matcher
        if matcher is None or not self.reaches_root:
            return None
        if self.selection is None:
            return Constrained(matcher, self.token_ids[-1:], (ROOT,))
        return Constrained(matcher, self.token_ids, (ROOT, *self.selection.parents))

    def rows(self) -> Rows:
        if self.selection is None:
            return Rows(self.sequence, self.token_ids)
        return Rows(self.sequence, self.token_ids, (ROOT, *self.selection.parents))


Plan = list[Entry]


def make_plan(table: SessionTable, cost: CostCurve, now: float) -> Plan:
    """Every session that is ready gets its root, prompts get their chunk, nodes what remains as far as they pay; empty:
    nothing to do yet.

    When blocks run out those of the highest rank go on: a session of lower rank is preempted for them or sits out.
    """
    roots = [session for session in table.by_rank() if session.prefilled and session.seconds_to_wait(now) <= 0]
    roots = [session for session in roots if table.make_room(session, 1)]
    prefill = list(_prefill_entries(table))
    roots = [session for session in roots if session.sequence is not None]
    chunks = sum(len(entry.token_ids) for entry in prefill)
    selections = _select(roots, len(roots) + chunks, table, cost)
    plan = [*map(_decode_entry, roots, selections), *prefill]
    table.counts.rows += sum(len(entry.token_ids) for entry in plan)
    table.counts.prompt_rows += chunks
    for entry in plan:
        entry.session.launch(now)
    return plan


def _select(roots: Sequence[Session], taken: int, table: SessionTable, cost: CostCurve) -> list[Selection]:
    """The nodes of each root's session. Lockstep rounds are verified whole; of all others what pays is taken.

    ``taken`` rows are in the step already.
    """
    rounds = {
        session.session_id: select_alone(session.candidate()) for session in roots if session.mode is Mode.LOCKSTEP
    }
    free = [session for session in roots if session.session_id not in rounds]
    rows = taken + sum(len(selection.nodes) for selection in rounds.values())

    def how_many_pay(gains: Sequence[float]) -> int:
        paying = nodes_that_pay(gains, len(roots), lambda nodes: cost(rows + nodes, len(roots)))
        table.counts.offered_nodes += len(gains)
        table.counts.paying_nodes += paying
        return paying

    chosen = select_across([session.candidate() for session in free], table.limits.max_rows - rows, how_many_pay)
    chosen_of = dict(zip((session.session_id for session in free), chosen, strict=True))
    return [(rounds | chosen_of)[session.session_id] for session in roots]


def _decode_entry(session: Session, selection: Selection) -> Entry:
    sequence = session.sequence
    assert sequence is not None, "roots have been given room"
    fitting = sequence.stretch(1 + len(selection.nodes)) - 1
    if fitting < len(selection.nodes):
        selection = select_alone(session.candidate(fitting))
    return Entry(session, sequence, (session.tree.root.token_id, *selection.token_ids), selection)


def constrained_rows(plan: Plan) -> dict[str, Constrained]:
    """The rows that a grammar speaks about, by session."""
    rows = ((entry.session.session_id, entry.constrained()) for entry in plan)
    return {name: constrained for name, constrained in rows if constrained is not None}


def _prefill_entries(table: SessionTable) -> Iterator[Entry]:
    """Chunks of the prompts that are not computed yet, as far as the chunk size goes."""
    prompts = [session for session in table.by_rank() if not session.prefilled]
    if not prompts:
        return
    shares = share_prefill([session.missing for session in prompts], table.limits.prefill_chunk)
    table.make_room(prompts[0], shares[0])
    for session, share in zip(prompts, shares, strict=True):
        sequence = session.sequence
        fitting = 0 if sequence is None else sequence.stretch(share)
        if sequence is not None and fitting > 0:
            start = sequence.num_computed_tokens
            yield Entry(session, sequence, session.tokens[start : start + fitting], None)
