"""Which drafters draft for overlapped sessions, decided by what steps with and without them have brought, or, of those
that are never right, at once."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence

from paceline.logs import get_logger
from paceline.speculation.cost import FREE, CostCurve
from paceline.speculation.policy import Mode
from paceline.speculation.trials import Trials
from verifier_service.attachment import Attachment
from verifier_service.plan import Plan
from verifier_service.session import Session

logger = get_logger(__name__)


class Switch:
    """Feeds ``Trials`` with steps and carries out what they say."""

    def __init__(self, cost: CostCurve) -> None:
        self._trials, self._cost = Trials(), cost
        self._committed_at = 0.0

    def on(self, session: Session, attachment: Attachment) -> bool:
        """Whether a drafter is to draft for a session; in lockstep a round of every drafter is what was asked for."""
        return session.mode is not Mode.OVERLAPPED or self._known(attachment)[0]

    def observe(self, plan: Plan, tokens: Sequence[int], running: int, now: float) -> None:
        """After a step that emitted so many tokens for each entry. Only steps that compare count: no prefill, all
        overlapped, all with drafters, none aborted meanwhile."""
        started, self._committed_at = self._committed_at, now
        sessions = [entry.session for entry in plan if entry.selection is not None]
        alike = all(s.mode is Mode.OVERLAPPED and s.attachments and not s.ended for s in sessions)
        if len(sessions) < len(plan) or not alike:
            return
        drafters = {drafter_id for session in sessions for drafter_id in session.attachments}
        started = max(started, min(session.rooted_at for session in sessions))
        before = {drafter_id: self._trials.usual(drafter_id) for drafter_id in drafters}
        alone = self._cost(len(sessions), len(sessions))
        self._trials.step(drafters, running, sum(tokens), now - started, 0.0 if self._cost is FREE else alone)
        for drafter_id, usual in before.items():
            if self._trials.usual(drafter_id) is not usual:
                gain = math.exp(self._trials.gain(drafter_id) or 0.0)
                word = "a drafter rests" if usual else "a drafter drafts again"
                logger.info(word, drafter=drafter_id, sessions=running, gain=round(gain, 2))

    def changes(self, sessions: Iterable[Session]) -> Iterator[tuple[Session, Attachment]]:
        """Switches drafters on and off; the places that have changed."""
        known = dict[str, tuple[bool, bool]]()  # asked once per drafter, not once per session
        for session in sessions:
            for drafter_id, attachment in session.attachments.items():
                if drafter_id not in known:
                    attachment.merit.turn()
                    known[drafter_id] = self._known(attachment)
                asked_for = session.mode is not Mode.OVERLAPPED
                on, attachment.pays = (asked_for or says for says in known[drafter_id])
                if on is not attachment.on:
                    attachment.on = on
                    yield session, attachment

    def _known(self, attachment: Attachment) -> tuple[bool, bool]:
        """Whether a drafter is to draft now, and whether that pays."""
        drafter_id, rests = attachment.source.drafter_id, attachment.merit.rests
        return self._trials.on(drafter_id) and not rests, self._trials.pays(drafter_id) and not rests
