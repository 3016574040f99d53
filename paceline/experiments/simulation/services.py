"""Paceline itself in virtual time: the services' verifiers and drafters on simpy's clock."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import simpy

from drafter_service.service import Drafter
from drafter_service.session import DraftSession
from paceline.emulation import EmulatedLink, SyntheticAcceptance
from paceline.engine.runner import ModelRunner
from paceline.experiments.simulation.acceptance import VOCABULARY, Text
from paceline.experiments.simulation.drafting import SimulatedLookups, SimulatedModel
from paceline.experiments.simulation.machines import Machines, Pool
from paceline.experiments.simulation.target import CountingRunner, Told, no_logits, rows_of
from paceline.experiments.simulation.workload import Request, Served
from paceline.messages import Attach, DraftUpdate, ModelInfo, OpenSession, SessionEvent, Verdicts
from paceline.speculation.crew import LEAST_STEPS, Experience, Situation
from paceline.speculation.crew import Drafter as Candidate
from paceline.speculation.policy import Mode, SpeculationParameters
from paceline.speculation.sampling import SamplingParameters
from verifier_service.plan import Plan
from verifier_service.service import Verifier
from verifier_service.table import Limits

Process = Generator[simpy.Event, Any, None]
Watch = Callable[["Answering", float, int], None]
"""Hears of a session's commits: seconds since its last one, or since it came, and tokens."""
CONTEXT = 1 << 20
_ROOT_BYTES, _NODE_BYTES = 64, 16
"""About what a session's entry and a node take on the wire."""
_TURN_SECONDS = 1e-6
"""A drafter's turn that only takes note of news."""
SPECULATION = SpeculationParameters()
"""As a client has it that asks for nothing else; not tuned to a cell."""
OFF = SpeculationParameters(Mode.OFF)


class World:
    """A cluster and its requests. ``serve`` runs until all are answered."""

    def __init__(self, machines: Machines, speculation: SpeculationParameters = SPECULATION, seed: int = 0) -> None:
        self.env = simpy.Environment()
        self.machines, self.speculation, self.seed = machines, speculation, seed
        self.told = Told()
        self.verifiers = [SimulatedVerifier(self, index) for index in range(machines.target.replicas)]
        self.drafters = [
            SimulatedDrafter(self, pool, index) for pool in machines.pools for index in range(pool.replicas)
        ]
        self.experience = Experience()
        self.served: list[Served] = []
        self.watch: Watch | None = None
        self._open: dict[str, Answering] = {}
        self._next: Callable[[], None] = lambda: None

    @property
    def now(self) -> float:
        return cast("float", self.env.now)

    def after(self, seconds: float, what: Callable[[], object]) -> None:
        """Something happens later."""
        self.env.timeout(seconds).callbacks.append(lambda _: _do(what))

    def serve(self, requests: Iterable[Request], sessions: int) -> list[Served]:
        """``sessions`` 0: requests come when they say; else so many are always there."""
        waiting = iter(requests)
        if sessions:
            self._next = lambda: self._come(next(waiting, None))
            for _ in range(sessions):
                self._next()
        else:
            for request in waiting:
                self.after(request.at, lambda request=request: self._come(request))  # type: ignore[misc]
        self.env.run()
        return self.served

    def _come(self, request: Request | None) -> None:
        if request is None:
            return
        verifier = min(self.verifiers, key=lambda candidate: (candidate.sessions, candidate.index))
        served = Served(request, self.now)
        answering = Answering(self, verifier, served, self._opening(request))
        self._open[answering.opening.session_id] = answering
        self.told.texts[request.key] = request.text()
        answering.start()

    def _opening(self, request: Request) -> OpenSession:
        tokens = tuple(self._text(request)[: request.prompt_tokens])
        sampling = SamplingParameters(max_tokens=request.output_tokens, temperature=0.0, ignore_eos=True)
        return OpenSession(
            f"r{request.index}", 1, tokens, len(tokens), sampling, self.speculation, request.key, b"simulated"
        )

    def _text(self, request: Request) -> list[int]:
        return request.text().tokens

    def over(self, answering: Answering) -> None:
        """A request has been answered."""
        del self._open[answering.opening.session_id]
        del self.told.texts[answering.served.request.key]
        self.served.append(answering.served)
        self._next()

    def send(self, events: Sequence[SessionEvent]) -> None:
        """In a gateway's place."""
        for event in events:
            self._open[event.session_id].heard(event)


def _do(what: Callable[[], object]) -> None:
    what()


class Answering:
    """A request's session as a gateway sees it."""

    def __init__(self, world: World, verifier: SimulatedVerifier, served: Served, opening: OpenSession) -> None:
        self.world, self.verifier, self.served, self.opening = world, verifier, served, opening
        self._crew: list[tuple[SimulatedDrafter, Candidate]] = []

    def start(self) -> None:
        world = self.world
        self.verifier.sessions += 1
        self.verifier.command(self.opening)
        if self.opening.speculation.mode is Mode.OFF:
            return
        there = {drafter.drafter.drafter_id: drafter for drafter in world.drafters}
        candidates = [drafter.candidate() for drafter in world.drafters]
        for chosen in world.experience.choose(world.now, candidates, self._situation):
            drafter = there[chosen.drafter_id]
            self._crew.append((drafter, chosen))
            drafter.attach(self.opening, self.verifier)

    @property
    def _situation(self) -> Situation:
        return Situation(self.opening.speculation.mode, self.verifier.sessions)

    def heard(self, event: SessionEvent) -> None:
        served, now = self.served, self.world.now
        if event.committed is not None:
            if served.tokens == 0:
                served.first = now
            else:
                served.steps += 1
            tokens, before = len(event.committed.token_ids), served.last
            served.tokens, served.last = served.tokens + tokens, now
            if self.world.watch:
                self.world.watch(self, now - (before if served.steps else served.arrived), tokens)
        if event.finish_reason is not None:
            self._learn(event)
            self.verifier.sessions -= 1
            self.world.over(self)

    def _learn(self, event: SessionEvent) -> None:
        said = {item.drafter_id: item for item in event.overlap.drafters} if event.overlap else {}
        for _, candidate in self._crew:
            statistics = said.get(candidate.drafter_id)
            if statistics and (statistics.steps >= LEAST_STEPS or not statistics.drafting):
                self.world.experience.report(
                    self.world.now, candidate, self._situation, statistics.steps, statistics.accepted,
                    drafting=statistics.drafting,
                )  # fmt: skip


class SimulatedVerifier:
    """The services' verifier; its forwards take what the target's table says."""

    def __init__(self, world: World, index: int) -> None:
        self.world, self.index, self.sessions = world, index, 0
        runner = cast("ModelRunner", CountingRunner(CONTEXT))  # all that a verifier asks of one
        told = cast("SyntheticAcceptance", world.told)
        info = ModelInfo("target", VOCABULARY, CONTEXT, "", ())
        cost = world.machines.target.cost
        self.verifier = Verifier(runner, info, Limits(), cost, clock=lambda: world.now, synthetic=told)
        self.steps = self.rows = 0
        self.busy_seconds = 0.0
        self._woken = world.env.event()
        world.env.process(self._run())

    def command(self, opening: OpenSession) -> None:
        self.verifier.command(opening, self.world)
        self._wake()

    def update(self, update: DraftUpdate, link: Link) -> None:
        if self.verifier.update(update, link):
            self._wake()

    def _wake(self) -> None:
        if not self._woken.triggered:
            self._woken.succeed()

    def _run(self) -> Process:
        env, verifier = self.world.env, self.verifier
        while True:
            plan = verifier.launch()
            if not plan:
                yield self._something_new()
                continue
            seconds = self._seconds(plan)
            self.steps, self.busy_seconds = self.steps + 1, self.busy_seconds + seconds
            yield env.timeout(seconds)
            verifier.conclude(plan, no_logits(plan), {})

    def _something_new(self) -> simpy.Event:
        self._woken = woken = self.world.env.event()
        wait = self.verifier.wait_seconds()
        if wait is not None:
            self.world.after(max(wait, _TURN_SECONDS), lambda: woken.triggered or woken.succeed())
        return woken

    def _seconds(self, plan: Plan) -> float:
        decoded, prompts = rows_of(plan)
        self.rows += decoded
        context = sum(len(entry.session.tokens) for entry in plan if entry.selection is not None)
        return self.world.machines.target.seconds(decoded, prompts, context)


@dataclass(eq=False)
class Link:
    """A drafter's stream to a verifier, both ways."""

    drafter: SimulatedDrafter
    verifier: SimulatedVerifier
    there: EmulatedLink
    back: EmulatedLink
    outgoing: list[DraftUpdate] = field(default_factory=list)

    def send(self, message: DraftUpdate | Verdicts) -> None:
        """Of the drafter to the verifier, and the other way."""
        if isinstance(message, DraftUpdate):
            self.outgoing.append(message)
            return
        world, size = self.drafter.world, _ROOT_BYTES * (len(message.verdicts) + len(message.joined))
        arrival = self.back.arrival(world.now, size)
        world.after(arrival - world.now, lambda: self.drafter.receive(message, self))

    def leave(self, after: float) -> None:
        """What has been said goes on its way."""
        world = self.drafter.world
        updates, self.outgoing = self.outgoing, []
        for update in updates:
            size = _ROOT_BYTES + sum(_ROOT_BYTES + _NODE_BYTES * len(nodes.columns) for nodes in update.nodes)
            arrival = self.there.arrival(world.now + after, size)
            world.after(arrival - world.now, lambda update=update: self.verifier.update(update, self))  # type: ignore[misc]


class SimulatedDrafter:
    """The services' drafter; a growth takes its time, and what it sends leaves at its end."""

    def __init__(self, world: World, pool: Pool, index: int) -> None:
        self.world, self.pool = world, pool
        name = f"{pool.name}-{index}"
        salt = len(pool.name) + 31 * sum(map(ord, pool.name))
        make = SimulatedLookups if pool.looks_up else SimulatedModel
        self._kind = kind = make(pool.profile, salt, self._text)
        self.drafter = Drafter(
            kind, drafter_id=name, vocabulary_size=VOCABULARY, max_context=CONTEXT, clock=lambda: world.now
        )
        self.busy_seconds = 0.0
        self._links: dict[int, Link] = {}
        self._idle, self._grown = True, 0
        grow = kind.grow

        def noting(sessions: Sequence[DraftSession]) -> None:
            self._grown = len(sessions)
            grow(sessions)

        kind.grow = noting  # type: ignore[method-assign]

    def _text(self, key: int) -> Text:
        return self.world.told.texts[key]

    def candidate(self) -> Candidate:
        drafter = self.drafter
        return Candidate(drafter.drafter_id, self.pool.name, drafter.attached_sessions, drafter.max_sessions)

    def attach(self, opening: OpenSession, verifier: SimulatedVerifier) -> None:
        link = self._links.get(verifier.index) or self._link(verifier)
        self.drafter.attach(Attach.to(opening, f"v{verifier.index}", self.drafter.drafter_id), link, lambda _: None)
        link.leave(0.0)
        self._wake()

    def _link(self, verifier: SimulatedVerifier) -> Link:
        wire = self.world.machines.wire
        there = EmulatedLink(1e-3 * wire.round_trip_ms, 1e-3 * wire.jitter_ms, 1e6 * wire.bandwidth_mbps or None)
        link = self._links[verifier.index] = Link(self, verifier, there, there.other_direction())
        return link

    def receive(self, verdicts: Verdicts, link: Link) -> None:
        self.drafter.receive(verdicts, link)
        self._wake()

    def _wake(self) -> None:
        if self._idle:
            self._idle = False
            self.world.after(0.0, self._turn)

    def _turn(self) -> None:
        self._grown = 0
        if not self.drafter.grow():
            self._idle = True
            return
        seconds = self.pool.seconds(self._grown, self._kind.rows) if self._grown else _TURN_SECONDS
        self.busy_seconds += seconds if self._grown else 0.0
        for link in self._links.values():
            link.leave(seconds)
        self.world.after(seconds, self._turn)
