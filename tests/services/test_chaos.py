"""Whatever is delayed, doubled, lost or restarted between drafters and verifier, the text is the target's own.

A state machine over one verifier and three drafters, in process, with a clock that ticks when it is read: a schedule
that fails is shrunk by hypothesis and printed rule by rule. ``PACELINE_SCHEDULES`` sets how many are tried.
"""

from __future__ import annotations

import itertools
import os
import tempfile
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import torch
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from drafter_service.drafters.base import DraftKind
from drafter_service.drafters.model import ModelDrafter
from drafter_service.drafters.ngram import NgramDrafter
from drafter_service.service import Drafter, Membership
from paceline.engine.batch import Rows
from paceline.engine.runner import Logits, ModelRunner, Numerics
from paceline.errors import PacelineError
from paceline.messages import (
    AbortSession,
    Attach,
    ChangeSession,
    DraftUpdate,
    ModelInfo,
    OpenSession,
    SessionEvent,
    Status,
    Verdicts,
)
from paceline.speculation.fields import FieldError
from paceline.speculation.noise import noise_key
from paceline.speculation.policy import Mode, SpeculationParameters
from paceline.speculation.sampling import SamplingParameters
from paceline.speculation.tree import State
from tests.checkpoints import write_checkpoint
from tests.in_process import SECRET, InProcess, make_drafter
from verifier_service.plan import Plan
from verifier_service.service import Verifier
from verifier_service.table import Limits

SCHEDULES = int(os.environ.get("PACELINE_SCHEDULES", "150"))
SAMPLING = SamplingParameters(max_tokens=24, temperature=0.8)
PROMPTS = {"a": (1, 2, 3, 1, 2, 3, 1, 2), "b": tuple(range(40)), "c": (5,)}
CACHE_TOKENS = 144
"""Too few for all three sessions at once, so that some are preempted."""
DRAFTERS = ("perfect", "random", "ngram")


@cache
def checkpoint(seed: int) -> Path:
    return write_checkpoint(Path(tempfile.mkdtemp(prefix="paceline-chaos-")), seed=seed)


def runner(seed: int, cache_tokens: int) -> ModelRunner:
    torch.set_num_threads(1)
    return ModelRunner.load(checkpoint(seed), cache_tokens=cache_tokens, numerics=Numerics.DETERMINISTIC)


shared_runner = cache(runner)


@cache
def own_text(session: str) -> tuple[int, ...]:
    """What the target says alone."""
    world = InProcess(shared_runner(0, 4096))
    off = SpeculationParameters(mode=Mode.OFF)
    world.open(session, PROMPTS[session], SAMPLING, off, seed=3)
    world.run()
    return tuple(world.recorder.tokens[session])


KINDS: dict[str, Callable[[], DraftKind]] = {
    "perfect": lambda: ModelDrafter(shared_runner(0, 2048)),
    "random": lambda: ModelDrafter(shared_runner(1, 2048)),
    "ngram": NgramDrafter,
}


class Line:
    """One drafter's stream in both directions; what is sent waits until it is delivered."""

    def __init__(self, verifier: Verifier, drafter: Drafter) -> None:
        self.verifier, self.drafter = verifier, drafter
        self.up: deque[DraftUpdate] = deque()
        self.down: deque[Verdicts] = deque()

    def send(self, message: DraftUpdate | Verdicts) -> None:
        if isinstance(message, Verdicts):
            malformed = [r for r in message.rejected if r.status is Status.INVALID_ARGUMENT]
            assert not malformed, "honest drafters are late, double or lost, never malformed"
            self.down.append(message)
        else:
            self.up.append(message)

    def deliver(self, *, up: bool) -> None:
        if up:
            self.verifier.update(self.up.popleft(), self)
        else:
            self.drafter.receive(self.down.popleft(), self)


class Chaos(RuleBasedStateMachine):
    """See the module."""

    def __init__(self) -> None:
        super().__init__()
        self.target = runner(0, CACHE_TOKENS)
        ticks = itertools.count()
        info = ModelInfo("target", 64, 512, "", ())
        self.verifier = Verifier(self.target, info, Limits(prefill_chunk=16), clock=lambda: next(ticks) * 1e-3)
        self.texts: dict[str, list[int]] = {}
        self.openings: dict[str, OpenSession] = {}
        self.over: set[str] = set()
        self.aborted: set[str] = set()
        self.during: list[Callable[[], None]] = []
        self.lines: dict[str, Line] = {}
        self.members: dict[tuple[str, str], Membership] = {}
        launch = self.verifier._stepper.launch
        self.verifier._stepper.launch = lambda: self.only_live_paths(launch())  # type: ignore[method-assign]
        forward = self.target.forward

        def eventful(groups: Sequence[Rows]) -> list[Logits]:
            """What happens while a step is under way."""
            happening, self.during = self.during, []
            for what in happening:
                what()
            return forward(groups)

        self.target.forward = eventful  # type: ignore[method-assign]

    @staticmethod
    def only_live_paths(plan: Plan) -> Plan:
        for entry in plan:
            rows = [entry.session.tree.root, *(entry.selection.nodes if entry.selection else ())]
            for row, node in enumerate(rows[1:], 1):
                assert entry.selection is not None
                assert node.state is State.LIVE
                assert node.parent is rows[entry.selection.parents[row - 1]]
        return plan

    def send(self, events: Sequence[SessionEvent]) -> None:
        """The gateway's side."""
        for event in events:
            if event.epoch != self.openings[event.session_id].epoch or event.session_id in self.aborted:
                continue
            if event.committed:
                text = self.texts[event.session_id]
                assert event.committed.position == len(PROMPTS[event.session_id]) + len(text)
                text.extend(event.committed.token_ids)
            if event.last:
                self.over.add(event.session_id)

    @property
    def running(self) -> list[str]:
        return [name for name in self.openings if name not in self.over]

    # -- what may happen -----------------------------------------------------------------------------------------------

    @initialize()
    def drafters_start(self) -> None:
        for name in DRAFTERS:
            self.start(name)

    def start(self, name: str) -> None:
        drafter = make_drafter(KINDS[name](), 64, name)
        self.lines[name] = Line(self.verifier, drafter)

    def attach(self, name: str, session: str) -> None:
        line, opening = self.lines[name], self.openings[session]
        try:
            attach = Attach.to(opening, "here", name)
            member = line.drafter.attach(attach, line, lambda _: None)
        except (PacelineError, FieldError):
            return
        self.members[name, session] = member

    @rule(session=st.sampled_from(sorted(PROMPTS)), mode=st.sampled_from([Mode.OVERLAPPED, Mode.OVERLAPPED, *Mode]))
    def open(self, session: str, mode: Mode) -> None:
        if session in self.openings:
            return
        prompt = PROMPTS[session]
        key, speculation = noise_key(3, 0, prompt), SpeculationParameters(mode=mode)
        opening = OpenSession(session, 1, prompt, len(prompt), SAMPLING, speculation, key, SECRET)
        self.openings[session], self.texts[session] = opening, []
        self.verifier.command(opening, self)
        for name in DRAFTERS:
            self.attach(name, session)

    @rule(times=st.integers(1, 4))
    def step(self, times: int) -> None:
        for _ in range(times):
            self.verifier.step()

    @rule(name=st.sampled_from(DRAFTERS))
    def grow(self, name: str) -> None:
        self.lines[name].drafter.grow()

    @rule(name=st.sampled_from(DRAFTERS), up=st.booleans(), most=st.integers(1, 5))
    def deliver(self, name: str, *, up: bool, most: int) -> None:
        line = self.lines[name]
        for _ in range(min(most, len(line.up if up else line.down))):
            line.deliver(up=up)

    @rule(name=st.sampled_from(DRAFTERS), up=st.booleans())
    def double(self, name: str, *, up: bool) -> None:
        queue: deque[Any] = self.lines[name].up if up else self.lines[name].down
        if queue:
            queue.insert(1, queue[0])

    @rule(name=st.sampled_from(DRAFTERS), up=st.booleans())
    def lose(self, name: str, *, up: bool) -> None:
        queue: deque[Any] = self.lines[name].up if up else self.lines[name].down
        if queue:
            queue.popleft()

    @rule(name=st.sampled_from(DRAFTERS))
    def restart(self, name: str) -> None:
        """The process dies and another takes its place, with a new incarnation."""
        line = self.lines[name]
        self.verifier.drafter_lost(line)
        line.drafter.link_lost(line)
        line.drafter.grow()  # the old one's blocks go back
        self.start(name)
        for session in self.running:
            self.attach(name, session)

    @precondition(lambda self: self.members)
    @rule(data=st.data())
    def leave(self, data: st.DataObject) -> None:
        name, session = data.draw(st.sampled_from(sorted(self.members)))
        self.lines[name].drafter.detach(self.members.pop((name, session)))

    @precondition(lambda self: self.running)
    @rule(data=st.data())
    def next_epoch(self, data: st.DataObject) -> None:
        """The gateway opens a session anew with what it holds of it; drafters are told, or left to find out."""
        session = data.draw(st.sampled_from(self.running))
        opening, text = self.openings[session], self.texts[session]
        fresh = replace(opening, epoch=opening.epoch + 1, token_ids=(*PROMPTS[session], *text))
        self.openings[session] = fresh
        self.verifier.command(fresh, self)
        for name in data.draw(st.lists(st.sampled_from(DRAFTERS), unique=True)):
            self.attach(name, session)

    @precondition(lambda self: self.running)
    @rule(data=st.data(), in_flight=st.booleans())
    def abort(self, data: st.DataObject, *, in_flight: bool) -> None:
        session = data.draw(st.sampled_from(self.running))

        def leave() -> None:
            if session in self.running:
                self.aborted.add(session)
                self.over.add(session)
                self.verifier.command(AbortSession(session, self.openings[session].epoch), self)

        if in_flight:
            self.during.append(leave)
        else:
            leave()

    @precondition(lambda self: self.running)
    @rule(data=st.data(), name=st.sampled_from(DRAFTERS))
    def drafter_dies_in_flight(self, data: st.DataObject, name: str) -> None:
        self.during.append(lambda: self.restart(name))

    @precondition(lambda self: self.running)
    @rule(data=st.data(), mode=st.sampled_from(Mode))
    def change_mode(self, data: st.DataObject, mode: Mode) -> None:
        self.verifier.command(ChangeSession(data.draw(st.sampled_from(self.running)), mode=mode), self)

    # -- what always holds ---------------------------------------------------------------------------------------------

    @invariant()
    def texts_are_the_target_s_own(self) -> None:
        for session, text in self.texts.items():
            assert tuple(text) == own_text(session)[: len(text)]

    def teardown(self) -> None:
        for _ in range(2000):
            if not self.verifier.busy:
                break
            self.verifier.step()
        assert not self.verifier.busy
        for name, text in self.texts.items():
            assert tuple(text) == own_text(name)[: len(text) if name in self.aborted else None]
        assert self.target.cache.pool.free == self.target.cache.pool.num_blocks
        for line in self.lines.values():
            line.drafter.link_lost(line)
            line.drafter.grow()
        for seed in (0, 1):
            pool = shared_runner(seed, 2048).cache.pool
            assert pool.free == pool.num_blocks


TestChaos = Chaos.TestCase
TestChaos.settings = settings(
    max_examples=SCHEDULES, stateful_step_count=40, deadline=None, suppress_health_check=list(HealthCheck)
)
