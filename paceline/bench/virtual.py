"""Verifier and drafters in virtual time: the services' own logic and real models, on a clock of events.

A target's forward and a draft's take the times they are given and messages half a round trip, whatever this machine
does meanwhile; so a whole grid of clusters runs in minutes and gives the same figures every time.
"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import cast

from drafter_service.drafters.base import DraftKind
from drafter_service.service import Drafter
from drafter_service.session import DraftSession
from paceline.engine.batch import Rows
from paceline.engine.runner import Logits, ModelRunner
from paceline.messages import Attach, DraftUpdate, ModelInfo, OpenSession, OverlapStatistics, SessionEvent, Verdicts
from paceline.speculation.cost import CostCurve
from verifier_service.service import Verifier
from verifier_service.table import Limits

Clock = Callable[[], float]
_TURN_SECONDS = 1e-6
"""A drafter's turn that only takes note of news."""


@dataclass(frozen=True)
class Times:
    """Of a cluster, in seconds."""

    step: float
    draft: float
    rtt: float
    lookup: float = 0.0005
    """Of drafters without a model."""

    def growth(self, kind: DraftKind) -> float:
        return self.draft if kind.name in ("model", "rag") else self.lookup


@dataclass
class Told:
    """A gateway's link: what each session has said, and when."""

    clock: Clock
    tokens: dict[str, list[int]] = field(default_factory=dict)
    at: dict[str, list[float]] = field(default_factory=dict)
    counts: dict[str, list[int]] = field(default_factory=dict)
    overlap: dict[str, OverlapStatistics] = field(default_factory=dict)

    def send(self, events: Sequence[SessionEvent]) -> None:
        for event in events:
            if event.committed:
                self.tokens.setdefault(event.session_id, []).extend(event.committed.token_ids)
                self.at.setdefault(event.session_id, []).append(self.clock())
                self.counts.setdefault(event.session_id, []).append(len(event.committed.token_ids))
            if event.overlap:
                self.overlap[event.session_id] = event.overlap


class PacedTarget:
    """A runner whose forwards let the world go on for as long as they take."""

    def __init__(self, runner: ModelRunner, during: Callable[[], None]) -> None:
        self._runner, self._during = runner, during
        self.cache, self.open = runner.cache, runner.open

    def forward(self, groups: Sequence[Rows]) -> list[Logits]:
        logits = self._runner.forward(groups)
        self._during()
        return logits


class VirtualCluster:
    """One verifier and some drafters on one clock."""

    def __init__(self, target: ModelRunner, kinds: Sequence[DraftKind], times: Times) -> None:
        self.now, self.times = 0.0, times
        self._events: list[tuple[float, int, Callable[[], object]]] = []
        self._order = itertools.count()
        config = target.config
        info = ModelInfo("target", config.vocabulary_size, config.max_context, "", config.stop_token_ids)
        paced = PacedTarget(target, lambda: self._go_on(self.now + times.step))
        runner = cast("ModelRunner", paced)  # all that a verifier asks of one
        self.verifier = Verifier(runner, info, Limits(), CostCurve((1,), (times.step,)), clock=lambda: self.now)
        self.told = Told(lambda: self.now)
        self.drafters = [VirtualDrafter(self, kind, config.vocabulary_size, config.max_context) for kind in kinds]

    def at(self, when: float, what: Callable[[], object]) -> None:
        """Something happens at a time."""
        heapq.heappush(self._events, (when, next(self._order), what))

    def run(self, openings: Sequence[OpenSession]) -> Told:
        """Opens sessions and turns until all are over."""
        for opening in openings:
            self.verifier.command(opening, self.told)
            for drafter in self.drafters:
                drafter.attach(opening)
        while self.verifier.busy:
            if not self.verifier.step() and self.verifier.busy:
                self._idle()
        while self._events:  # drafters hear of the end and give their blocks back
            self._go_on(self._events[0][0])
        return self.told

    def _idle(self) -> None:
        wait = self.verifier.wait_seconds()
        upcoming = self._events[0][0] if self._events else float("inf")
        until = min(upcoming, self.now + wait if wait is not None else float("inf"))
        assert until < float("inf"), "nothing will ever happen again"
        self._go_on(max(until, self.now + _TURN_SECONDS))

    def _go_on(self, until: float) -> None:
        while self._events and self._events[0][0] <= until:
            when, _, what = heapq.heappop(self._events)
            self.now = max(self.now, when)
            what()
        self.now = until


class VirtualDrafter:
    """A drafter with its stream: a growth takes its time, what it sends leaves at its end."""

    def __init__(self, world: VirtualCluster, kind: DraftKind, vocabulary_size: int, max_context: int) -> None:
        self._world, self._kind = world, kind
        self.drafter = Drafter(
            kind,
            drafter_id=kind.name,
            vocabulary_size=vocabulary_size,
            max_context=max_context,
            clock=lambda: world.now,
        )
        self._outgoing: list[DraftUpdate] = []
        self._idle, self._grew = True, False
        grow = kind.grow

        def noting(sessions: Sequence[DraftSession]) -> None:
            self._grew = True
            grow(sessions)

        kind.grow = noting  # type: ignore[method-assign]

    def attach(self, opening: OpenSession) -> None:
        self.drafter.attach(Attach.to(opening, "", self.drafter.drafter_id), self, lambda _: None)
        self._leave(0.0)
        self._wake()

    def send(self, message: DraftUpdate | Verdicts) -> None:
        """Of the drafter to its verifier, and the other way."""
        if isinstance(message, DraftUpdate):
            self._outgoing.append(message)
        else:
            self._world.at(self._world.now + self._world.times.rtt / 2, lambda: self._arrive(message))

    def _arrive(self, verdicts: Verdicts) -> None:
        self.drafter.receive(verdicts, self)
        self._wake()

    def _wake(self) -> None:
        if self._idle:
            self._idle = False
            self._world.at(self._world.now, self._turn)

    def _turn(self) -> None:
        self._grew = False
        if not self.drafter.grow():
            self._idle = True
            return
        seconds = self._world.times.growth(self._kind) if self._grew else _TURN_SECONDS
        self._leave(seconds)
        self._world.at(self._world.now + seconds, self._turn)

    def _leave(self, after: float) -> None:
        updates, self._outgoing = self._outgoing, []
        when = self._world.now + after + self._world.times.rtt / 2
        for update in updates:
            self._world.at(when, lambda update=update: self._world.verifier.update(update, self))  # type: ignore[misc]
