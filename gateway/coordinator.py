"""Who drafts for which session, from its opening to its end: chosen, watched, replaced."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from gateway.workers import DrafterWorker, VerifierWorker
from paceline.logs import get_logger
from paceline.messages import (
    Attach,
    AuthorizeDrafter,
    DrafterStatistics,
    ModelInfo,
    OpenSession,
    OverlapStatistics,
    RevokeDrafter,
)
from paceline.speculation.choice import GroupChoice
from paceline.speculation.crew import KNOWN_SECONDS, LEAST_STEPS, Drafter, Experience, Situation
from paceline.speculation.policy import Mode

logger = get_logger(__name__)

Clock = Callable[[], float]

LOOK_SECONDS = 2.0
"""Between two looks at a session's speed; short sessions are looked at when they end."""
POOR = 0.1
"""With fewer accepted tokens per step drafters are chosen anew."""


@dataclass
class _Member:
    """A drafter at work for a session, and what was known of it when it was last looked at."""

    worker: DrafterWorker
    group: str
    task: asyncio.Task[None]
    steps: int = 0
    accepted: int = 0


@dataclass(frozen=True)
class _Look:
    """When a session was looked at, and what it had come to."""

    at: float
    steps: int
    accepted: int


class Coordinator:
    """The drafters that are there and what is known of them from all sessions."""

    def __init__(self, drafters: Sequence[DrafterWorker], clock: Clock = time.monotonic) -> None:
        """``drafters``: may come and go."""
        self.drafters, self.clock = drafters, clock
        self.experience, self.choice = Experience(), GroupChoice()

    def crew(
        self, opening: OpenSession, verifier: VerifierWorker, model: ModelInfo, prediction: tuple[int, ...] = ()
    ) -> Crew:
        """The drafters of a session that is being opened, already at work; ``prediction`` in tokens."""
        crew = Crew(self, opening, verifier, model, prediction)
        crew.complete()
        return crew

    def fitting(self, verifier: VerifierWorker, model: ModelInfo) -> Iterator[tuple[DrafterWorker, Drafter]]:
        """Healthy drafters that may dial the verifier and speak the model's tokens."""
        for worker in self.drafters:
            known = worker.description
            if known is None or not worker.healthy or not known.drafts_for(verifier.address):
                continue
            if known.tokenizer_hash and known.tokenizer_hash != model.tokenizer_hash:
                continue
            sessions = max(worker.attached, known.attached_sessions)
            yield worker, Drafter(known.drafter_id, f"{known.kind} {known.model}", sessions, known.max_sessions)


class Crew:
    """The drafters of one session."""

    def __init__(
        self,
        coordinator: Coordinator,
        opening: OpenSession,
        verifier: VerifierWorker,
        model: ModelInfo,
        prediction: tuple[int, ...],
    ) -> None:
        self._prediction = prediction
        self._coordinator, self._opening, self._verifier, self._model = coordinator, opening, verifier, model
        self._members: dict[str, _Member] = {}
        self._left: dict[str, float] = {}
        self._groups, self._chosen_from = set[str](), (self._situation.kind, set[str]())
        self._looked_at = _Look(coordinator.clock(), 0, 0)

    def complete(self) -> None:
        """Has a drafter of every chosen group draft; those that the client has named, if it has."""
        if self._opening.speculation.mode is Mode.OFF:
            return
        there = {drafter.group for _, drafter in self._coordinator.fitting(self._verifier, self._model)}
        if self._chosen_from != (self._situation.kind, there):
            self._choose_groups(there)
        workers = {drafter.drafter_id: (worker, drafter) for worker, drafter in self._available()}
        for drafter in self._choice([drafter for _, drafter in workers.values()]):
            self._attach(*workers[drafter.drafter_id])

    def heard(self, overlap: OverlapStatistics) -> None:
        """The verifier has told how drafting goes: whoever is gone, slow or useless is replaced."""
        for statistics in overlap.drafters:
            self._learn(statistics)
        self._dismiss_the_gone()
        if self._coordinator.clock() - self._looked_at.at > LOOK_SECONDS:
            self.look(overlap)
        if self._opening.speculation.drafters is None:
            self._replace_the_slow()
        self.complete()

    def look(self, overlap: OverlapStatistics) -> None:
        """Learns from how fast it went since the last look, and chooses anew if next to nothing was accepted."""
        before = self._looked_at
        self._looked_at = look = _Look(self._coordinator.clock(), overlap.steps, overlap.accepted_nodes)
        steps, accepted = look.steps - before.steps, look.accepted - before.accepted
        ours = self._opening.speculation.mode is Mode.OVERLAPPED and self._opening.speculation.drafters is None
        if not ours or steps < LEAST_STEPS or look.at <= before.at:
            return
        groups = {member.group for member in self._members.values()}
        self._coordinator.choice.observe(self._situation.kind, groups, (steps + accepted) / (look.at - before.at))
        if groups and accepted < POOR * steps:
            self._choose_groups(self._chosen_from[1])

    def close(self) -> None:
        """The session is over."""
        for member in self._members.values():
            member.task.cancel()
        self._members.clear()

    @property
    def _situation(self) -> Situation:
        return Situation(self._opening.speculation.mode, self._verifier.sessions, self._model.name)

    # -- who may, who does ---------------------------------------------------------------------------------------------

    def _available(self) -> Iterator[tuple[DrafterWorker, Drafter]]:
        now, named = self._coordinator.clock(), self._opening.speculation.drafters
        for worker, drafter in self._coordinator.fitting(self._verifier, self._model):
            name = drafter.drafter_id
            lately_left = now - self._left.get(name, -KNOWN_SECONDS) < KNOWN_SECONDS
            if name not in self._members and not lately_left and (named is None or name in named):
                yield worker, drafter

    def _choice(self, available: Sequence[Drafter]) -> Sequence[Drafter]:
        if self._opening.speculation.drafters is not None:
            return available
        taken = {member.group for member in self._members.values()}
        wanted = [drafter for drafter in available if drafter.group in self._groups]
        return self._coordinator.experience.choose(self._coordinator.clock(), wanted, self._situation, taken)

    def _choose_groups(self, there: set[str]) -> None:
        """Which of the groups are to draft; whoever is of none of them leaves. In lockstep all are asked for."""
        situation = self._situation
        self._groups, self._chosen_from = there, (situation.kind, there)
        if situation.mode is Mode.OVERLAPPED:
            self._groups = self._coordinator.choice.choose(situation.kind, there)
        if self._opening.speculation.drafters is None:
            for name, member in list(self._members.items()):
                if member.group not in self._groups:
                    self._dismiss(name, member, "others were chosen")

    def _attach(self, worker: DrafterWorker, drafter: Drafter) -> None:
        attach = Attach.to(self._opening, self._verifier.address, drafter.drafter_id, self._prediction)
        self._verifier.send(AuthorizeDrafter(self._opening.session_id, drafter.drafter_id))
        task = asyncio.create_task(worker.attach(attach))
        self._members[drafter.drafter_id] = _Member(worker, drafter.group, task)

    # -- watching ------------------------------------------------------------------------------------------------------

    def _learn(self, statistics: DrafterStatistics) -> None:
        member = self._members.get(statistics.drafter_id)
        if member is None:
            return
        steps, accepted = statistics.steps - member.steps, statistics.accepted - member.accepted
        if statistics.drafting and steps < LEAST_STEPS:
            return
        self._coordinator.experience.report(
            self._coordinator.clock(),
            self._seen(statistics.drafter_id, member),
            self._situation,
            steps,
            accepted,
            drafting=statistics.drafting,
        )
        member.steps, member.accepted = statistics.steps, statistics.accepted

    def _dismiss_the_gone(self) -> None:
        for name in [name for name, member in self._members.items() if member.task.done()]:
            del self._members[name]
            self._left[name] = self._coordinator.clock()

    def _replace_the_slow(self) -> None:
        now = self._coordinator.clock()
        for name, member in list(self._members.items()):
            others = [drafter for _, drafter in self._available()]
            present = self._seen(name, member)
            heir = self._coordinator.experience.replacement(now, present, others, self._situation)
            if heir is not None:
                self._dismiss(name, member, f"{heir.drafter_id} takes its place")

    def _dismiss(self, name: str, member: _Member, reason: str) -> None:
        about = {"session": self._opening.session_id, "epoch": self._opening.epoch}
        logger.info("a drafter is dismissed", drafter=name, reason=reason, **about)
        self._verifier.send(RevokeDrafter(self._opening.session_id, name, reason))
        member.task.cancel()
        del self._members[name]
        self._left[name] = self._coordinator.clock()

    @staticmethod
    def _seen(name: str, member: _Member) -> Drafter:
        return Drafter(name, member.group, member.worker.attached, 1)
