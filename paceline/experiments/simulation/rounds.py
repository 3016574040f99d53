"""Rivals in virtual time: targets that go on round by round with whatever sessions are there, each with its queue."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable
from dataclasses import dataclass
from typing import Any, cast

import simpy

from paceline.experiments.simulation.acceptance import Profile
from paceline.experiments.simulation.machines import Target
from paceline.experiments.simulation.rivals import Rival, Running
from paceline.experiments.simulation.workload import Request, Served
from paceline.speculation.schedule import share_prefill
from verifier_service.table import Limits

Process = Generator[simpy.Event, Any, None]
LIMITS = Limits()
"""As our own verifiers have them."""


@dataclass(eq=False)
class _Session:
    served: Served
    missing: int
    """Tokens of the prompt that are not computed yet."""
    running: Running


class Rounds:
    """A fleet of targets under one rival's regime."""

    def __init__(self, target: Target, profile: Profile | None, rival: Callable[[], Rival]) -> None:
        """``profile``: of the rival's drafter, if it has one."""
        self.env = simpy.Environment()
        self.target, self.profile = target, profile
        self.machines = [_Machine(self, rival()) for _ in range(target.replicas)]
        self.served: list[Served] = []
        self._next: Callable[[], None] = lambda: None

    @property
    def now(self) -> float:
        return cast("float", self.env.now)

    def serve(self, requests: Iterable[Request], sessions: int) -> list[Served]:
        """``sessions`` 0: requests come when they say; else so many are always there."""
        waiting = iter(requests)
        if sessions:
            self._next = lambda: self._come(next(waiting, None))
            for _ in range(sessions):
                self._next()
        else:
            self.env.process(self._arrive(waiting))
        self.env.run()
        return self.served

    def _arrive(self, requests: Iterable[Request]) -> Process:
        for request in requests:
            yield self.env.timeout(request.at - self.now)
            self._come(request)

    def _come(self, request: Request | None) -> None:
        if request is None:
            return
        machine = min(self.machines, key=lambda candidate: candidate.load)
        ranks = request.text().ranks(self.profile) if self.profile else ()
        # the first token comes with the prompt's last chunk
        running = Running(ranks, request.prompt_tokens, request.output_tokens)
        machine.come(_Session(Served(request, self.now), request.prompt_tokens, running))

    def over(self, served: Served) -> None:
        """A request has been answered."""
        self.served.append(served)
        self._next()


class _Machine:
    def __init__(self, fleet: Rounds, rival: Rival) -> None:
        self._fleet, self._rival = fleet, rival
        self._waiting: list[_Session] = []
        self._there: list[_Session] = []
        self.rounds = self.rows = 0
        self._woken = fleet.env.event()
        fleet.env.process(self._run())

    @property
    def load(self) -> int:
        return len(self._waiting) + len(self._there)

    def come(self, session: _Session) -> None:
        self._waiting.append(session)
        if not self._woken.triggered:
            self._woken.succeed()

    def _run(self) -> Process:
        env, target, rival = self._fleet.env, self._fleet.target, self._rival
        while True:
            free = LIMITS.max_sessions - len(self._there)
            self._there += self._waiting[:free]
            del self._waiting[:free]
            if not self._there:
                self._woken = env.event()
                yield self._woken
                continue
            prompts = [session for session in self._there if session.missing]
            shares = share_prefill([session.missing for session in prompts], LIMITS.prefill_chunk)
            decoding = [session for session in self._there if not session.missing]
            running = [session.running for session in decoding]
            rows = rival.rows(running)
            context = sum(session.running.position for session in decoding)
            yield env.timeout(rival.seconds(target.seconds(rows, sum(shares), context), running))
            self.rounds, self.rows = self.rounds + 1, self.rows + rows
            for session, share in zip(prompts, shares, strict=True):
                session.missing -= share
                if not session.missing:
                    self._emit(session, 1)
            for session in decoding:
                session.served.steps += 1
                self._emit(session, rival.advance(session.running))

    def _emit(self, session: _Session, tokens: int) -> None:
        served, running, now = session.served, session.running, self._fleet.now
        served.first = min(served.first, now)
        served.last, served.tokens = now, served.tokens + tokens
        running.position += tokens
        running.room -= tokens
        if running.room <= 0:
            self._there.remove(session)
            self._fleet.over(served)
