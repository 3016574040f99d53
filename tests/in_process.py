"""A verifier and drafters in one process, joined by links that go through the wire format but not through sockets."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from drafter_service.drafters.base import DraftKind
from drafter_service.service import Drafter
from paceline import wire
from paceline.engine.runner import ModelRunner
from paceline.messages import (
    Attach,
    AttachEvent,
    DraftUpdate,
    FinishReason,
    ModelInfo,
    OpenSession,
    Rejection,
    SessionEvent,
    Verdicts,
)
from paceline.speculation.cost import FREE, CostCurve
from paceline.speculation.noise import noise_key
from paceline.speculation.policy import SpeculationParameters
from paceline.speculation.sampling import SamplingParameters
from paceline.synthetic import SyntheticChoices
from verifier_service.grammar.compiler import GrammarCompiler
from verifier_service.service import Verifier
from verifier_service.table import Limits

SECRET = b"secret of the test"


@dataclass
class Recorder:
    """A gateway link that remembers what each session said."""

    tokens: dict[str, list[int]] = field(default_factory=dict)
    finished: dict[str, FinishReason] = field(default_factory=dict)
    rejected: dict[str, Rejection] = field(default_factory=dict)
    last: dict[str, SessionEvent] = field(default_factory=dict)

    def send(self, events: Sequence[SessionEvent]) -> None:
        for event in wire.from_decode_events(wire.to_decode_events(events)):
            self.last[event.session_id] = event
            if event.committed:
                self.tokens.setdefault(event.session_id, []).extend(event.committed.token_ids)
            if event.rejected:
                self.rejected[event.session_id] = event.rejected
            if event.finish_reason:
                self.finished[event.session_id] = event.finish_reason


class ToDrafter:
    def __init__(self, drafter: Drafter) -> None:
        self.drafter = drafter
        self.back: ToVerifier | None = None
        self.heard: list[Verdicts] = []

    def send(self, verdicts: Verdicts) -> None:
        assert self.back is not None
        arrived = wire.from_verdicts(wire.to_verdicts(verdicts))
        self.heard.append(arrived)
        self.drafter.receive(arrived, self.back)


class ToVerifier:
    def __init__(self, verifier: Verifier, forward: ToDrafter) -> None:
        self.verifier, self.forward = verifier, forward
        forward.back = self

    def send(self, update: DraftUpdate) -> None:
        arrived, rejected = wire.from_draft_update(wire.to_draft_update(update))
        assert not rejected
        self.verifier.update(arrived, self.forward)


class InProcess:
    """One verifier and some drafters; ``run`` turns their cranks until every session is over."""

    def __init__(
        self,
        target: ModelRunner,
        drafters: Sequence[Drafter] = (),
        limits: Limits | None = None,
        cost: CostCurve = FREE,
        synthetic: SyntheticChoices | None = None,
        clock: Callable[[], float] | None = None,
        compiler: GrammarCompiler | None = None,
        model: str = "target",
    ) -> None:
        """``clock``: by default a millisecond each time that somebody looks."""
        self.model = model
        info = ModelInfo(
            model, target.config.vocabulary_size, target.config.max_context, "", target.config.stop_token_ids
        )
        ticks = itertools.count()
        clock = clock or (lambda: next(ticks) * 1e-3)
        self.verifier = Verifier(target, info, limits or Limits(), cost, clock, synthetic, compiler)
        self.recorder = Recorder()
        self.drafters = list(drafters)
        self.links = [ToVerifier(self.verifier, ToDrafter(drafter)) for drafter in drafters]
        self.attach_events: list[tuple[str, AttachEvent]] = []

    def open(
        self,
        session_id: str,
        prompt: Sequence[int],
        sampling: SamplingParameters,
        speculation: SpeculationParameters | None = None,
        seed: int = 0,
        traceparent: str = "",
    ) -> None:
        key = noise_key(seed, 0, prompt)
        opening = OpenSession(
            session_id,
            1,
            tuple(prompt),
            len(prompt),
            sampling,
            speculation or SpeculationParameters(),
            key,
            SECRET,
            model=self.model,
            traceparent=traceparent,
        )
        opening = wire.from_decode_command(wire.to_decode_command(opening))  # type: ignore[assignment]
        self.verifier.command(opening, self.recorder)
        if session_id in self.recorder.rejected:
            return
        for drafter, link in zip(self.drafters, self.links, strict=True):
            self.attach(drafter, link, opening)

    def attach(self, drafter: Drafter, link: ToVerifier, opening: OpenSession) -> None:
        attach = Attach.to(opening, "here", drafter.drafter_id)
        attach = wire.from_attach(wire.to_attach(attach))
        with (
            self.verifier.changed
        ):  # first: so does a thread that has compiled a grammar, whose verdicts come here at once
            drafter.attach(attach, link, lambda event: self.attach_events.append((opening.session_id, event)))

    def run(self, growths_per_step: int = 2, between: Callable[[int], None] | None = None) -> None:
        for turn in range(1_000_000):
            for drafter in self.drafters:
                for _ in range(growths_per_step):
                    drafter.grow()
            self.verifier.step()
            if between:
                between(turn)
            if not self.verifier.busy:
                break
        for drafter in self.drafters:
            drafter.grow()
        self.verifier.step()


def make_drafter(kind: DraftKind, vocabulary_size: int, drafter_id: str | None = None) -> Drafter:
    return Drafter(kind, drafter_id=drafter_id or kind.name, vocabulary_size=vocabulary_size, max_context=4096)


def generate(
    target: ModelRunner,
    drafters: Sequence[Drafter],
    prompt: Sequence[int],
    sampling: SamplingParameters,
    speculation: SpeculationParameters | None = None,
    seed: int = 0,
) -> list[int]:
    """The tokens of one session, run on its own."""
    world = InProcess(target, drafters)
    world.open("s", prompt, sampling, speculation, seed)
    world.run()
    return world.recorder.tokens["s"]


def load(path: Path, cache_tokens: int = 8192) -> ModelRunner:
    return ModelRunner.load(path, cache_tokens=cache_tokens)


__all__ = ["SECRET", "InProcess", "Recorder", "generate", "load", "make_drafter", "replace"]
