"""The fast path: what steps of our services bring is learned from short runs of the full path, then drawn.

For a number of running sessions, powers of two or the closed loop's own, a closed loop of the full path is run once.
Its *cycles*, a session's seconds and tokens from commit to commit, and its times to the first token are what sessions
of the fast path take, in the order in which they came, around and around: so they are as many of each kind as there
were, and chance does not come in twice. So a cycle costs a look-up, whatever trees, wires and policies it stands for.
"""

from __future__ import annotations

import heapq
import itertools
import math
import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeVar

from paceline.experiments.simulation.machines import Machines
from paceline.experiments.simulation.rounds import LIMITS
from paceline.experiments.simulation.services import SPECULATION, Answering, World
from paceline.experiments.simulation.workload import Request, Served, requests
from paceline.experiments.specification import WorkloadSpec
from paceline.speculation.policy import SpeculationParameters

LEAST_REQUESTS, LEAST_TOKENS, GENERATIONS = 64, 12_000, 3
"""Of a short run: at least so many requests and tokens, and so many requests for each of its sessions."""
Cycle = tuple[float, int]
"""Seconds and tokens."""
ItemT = TypeVar("ItemT")


class Recorded(list[ItemT]):
    """What was seen, to be seen again in the same order, around and around."""

    _at = -1

    def next(self) -> ItemT:
        self._at = (self._at + 1) % len(self)
        return self[self._at]


@dataclass
class Level:
    """What so many sessions at each verifier have shown."""

    sessions: int
    first: list[float] = field(default_factory=list)
    """Seconds to the first token of those that came when all came at once, in the order they were answered."""
    later: Recorded[float] = field(default_factory=Recorded)
    """Of those that came one by one."""
    crowded: Recorded[Cycle] = field(default_factory=Recorded)
    """Cycles that ended before the first of all had their first token."""
    opening: Recorded[Cycle] = field(default_factory=Recorded)
    """First ones after a first token, when it was no longer crowded."""
    cycles: Recorded[Cycle] = field(default_factory=Recorded)
    """All others."""
    ending: Recorded[Cycle] = field(default_factory=Recorded)
    """When there were no more requests, and so fewer sessions."""
    rows: float = 0.0
    """Of a step, on the average."""

    @classmethod
    def measure(
        cls, machines: Machines, workload: WorkloadSpec, seed: int, sessions: int, speculation: SpeculationParameters
    ) -> Level:
        """By a closed loop of the full path."""
        replicas = machines.target.replicas
        level, everywhere = cls(sessions), sessions * replicas
        world = World(machines, speculation, seed)

        def note(answering: Answering, seconds: float, tokens: int) -> None:
            if answering.served.steps == 0:
                (level.first if len(level.first) < everywhere else level.later).append(seconds)
            elif answering.served.tokens < answering.served.request.output_tokens:  # the last one is cut short
                later = level.opening if answering.served.steps == 1 else level.cycles
                later = level.ending if answering.verifier.sessions < sessions else later
                (level.crowded if len(level.first) < everywhere else later).append((seconds, tokens))

        world.watch = note
        count = max(LEAST_REQUESTS, GENERATIONS * everywhere, LEAST_TOKENS // workload.output_tokens)
        world.serve(requests(replace(workload, requests=count, requests_per_second=0.0), seed), everywhere)
        level.cycles = level.cycles or level.opening or level.crowded or Recorded([(machines.target.seconds(1), 1)])
        level.later = level.later or Recorded(level.first)
        level.rows = sum(v.rows for v in world.verifiers) / max(1, sum(v.steps for v in world.verifiers))
        return level


class Levels:
    """Measured when first asked for."""

    def __init__(
        self, machines: Machines, workload: WorkloadSpec, seed: int, speculation: SpeculationParameters
    ) -> None:
        self._machines, self._workload, self._seed, self._speculation = machines, workload, seed, speculation
        self._known: dict[int, Level] = {}

    def at(self, sessions: int) -> Level:
        level = self._known.get(sessions)
        if level is None:
            level = self._known[sessions] = Level.measure(
                self._machines, self._workload, self._seed, sessions, self._speculation
            )
        return level

    def near(self, sessions: int, draw: float) -> Level:
        """One of the powers of two around, the nearer one more often."""
        below = 1 << (max(1, sessions).bit_length() - 1)
        share = math.log2(max(1, sessions) / below)
        return self.at(2 * below if draw < share and below < LIMITS.max_sessions else below)


@dataclass
class _Session:
    served: Served
    machine: int
    at_once: bool
    """It came when all came."""
    room: int
    """Tokens that it may still emit."""
    coming: int = 1
    """Tokens that its next commit brings; the first comes with the prompt."""


class Aggregated:
    """A fleet whose sessions draw their cycles. ``serve`` as of ``World``."""

    def __init__(
        self,
        machines: Machines,
        workload: WorkloadSpec,
        speculation: SpeculationParameters = SPECULATION,
        seed: int = 0,
    ) -> None:
        self.machines, self.now = machines, 0.0
        self.levels = Levels(machines, workload, seed, speculation)
        self.served: list[Served] = []
        self._random = random.Random(seed)
        self._events: list[tuple[float, int, Request | _Session]] = []
        self._order = itertools.count()
        self._running = [0] * machines.target.replicas
        self._waiting: list[list[_Session]] = [[] for _ in self._running]
        self._loop = 0
        """Sessions at each verifier in a closed loop; 0: requests come when they say."""
        self._firsts: list[float] = []
        self._crowded_until = 0.0

    def serve(self, requests: Sequence[Request], sessions: int) -> list[Served]:
        waiting = iter(requests)
        if sessions:
            self._loop = -(-sessions // len(self._running))
            self._firsts = list(reversed(self.levels.at(self._loop).first))
            self._crowded_until = max(self._firsts, default=0.0)
            for request in itertools.islice(waiting, sessions):
                self._come(request, at_once=True)
        else:
            self._next(waiting)
        while self._events:
            self.now, _, what = heapq.heappop(self._events)
            if isinstance(what, Request):
                self._come(what, at_once=False)
                self._next(waiting)
            elif self._commit(what) and sessions:
                for request in itertools.islice(waiting, 1):
                    self._come(request, at_once=False)
        return self.served

    def _next(self, requests: Iterable[Request]) -> None:
        for request in requests:
            heapq.heappush(self._events, (request.at, next(self._order), request))
            return

    def _come(self, request: Request, *, at_once: bool) -> None:
        loads = [running + len(waiting) for running, waiting in zip(self._running, self._waiting, strict=True)]
        machine = loads.index(min(loads))
        session = _Session(Served(request, self.now), machine, at_once, request.output_tokens)
        if self._running[machine] < LIMITS.max_sessions:
            self._start(session)
        else:
            self._waiting[machine].append(session)

    def _start(self, session: _Session) -> None:
        self._running[session.machine] += 1
        seconds = self._firsts.pop() if session.at_once and self._firsts else self._level(session).later.next()
        self._push(session, seconds)

    def _level(self, session: _Session) -> Level:
        if self._loop:
            return self.levels.at(self._loop)
        return self.levels.near(self._running[session.machine], self._random.random())

    def _push(self, session: _Session, seconds: float) -> None:
        heapq.heappush(self._events, (self.now + seconds, next(self._order), session))

    def _commit(self, session: _Session) -> bool:
        """A cycle, or the prompt, is over; whether the answer is."""
        served, tokens = session.served, min(session.coming, session.room)
        served.steps += served.tokens > 0
        served.first = min(served.first, self.now)
        served.last, served.tokens = self.now, served.tokens + tokens
        session.room -= tokens
        if session.room == 0:
            self._leave(session)
            return True
        level = self._level(session)
        seconds, session.coming = self._kind(session, level).next()
        self._push(session, seconds)
        return False

    def _kind(self, session: _Session, level: Level) -> Recorded[Cycle]:
        """Which of the level's cycles go on from here."""
        if self.now < self._crowded_until:
            known = level.crowded
        elif self._running[session.machine] < self._loop:
            known = level.ending
        else:
            known = level.opening if session.served.steps == 0 else level.cycles
        return known or level.cycles

    def _leave(self, session: _Session) -> None:
        self.served.append(session.served)
        self._running[session.machine] -= 1
        if waiting := self._waiting[session.machine]:
            self._start(waiting.pop(0))
