"""What a gateway has done since it started, in plain numbers that only grow; ``meters.py`` tells them.

Tokens add up, over any number of requests that are over: what verifiers have emitted for us and what was recalled from
the journal is what clients were given, what a stop string has trimmed, and what nobody heard any more.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, fields

from gateway.timings import Timings
from paceline.messages import DrafterStatistics, OverlapStatistics, StepCounts
from paceline.telemetry.measuring import Latest


@dataclass
class Steps:
    """Of sessions, as their committed tokens say."""

    steps: int = 0
    drafted: int = 0
    """That had nodes to verify."""
    emitted: int = 0
    verified: int = 0
    accepted: Counter[int] = field(default_factory=Counter)
    """Steps by how many nodes they accepted."""

    def add(self, step: StepCounts) -> None:
        self.steps += 1
        self.drafted += step.nodes > 0
        self.emitted += step.tokens
        self.verified += max(step.nodes, step.tokens - 1)
        self.accepted[step.tokens - 1] += 1

    @property
    def accepted_nodes(self) -> int:
        return self.emitted - self.steps

    @property
    def histogram(self) -> tuple[int, ...]:
        return tuple(self.accepted[number] for number in range(max(self.accepted, default=-1) + 1))


@dataclass
class ModelCounts:
    """Of the requests to one model, in tokens."""

    steps: Steps = field(default_factory=Steps)
    prompt: int = 0
    """Of prompts that a verifier took on, those of several choices once."""
    cached: int = 0
    recalled: int = 0
    delivered: int = 0
    trimmed: int = 0
    unheard: int = 0


@dataclass
class DrafterCounts:
    """Of one drafter, as verifiers tell it: up to a quarter of a second late."""

    proposed: int = 0
    verified: int = 0
    accepted: int = 0
    uniquely_accepted: int = 0
    stale: int = 0
    rejected: int = 0
    steps: int = 0
    busy_seconds: float = 0.0
    cost: float = 0.0
    """Of the time that it was busy, by its price."""

    def add(self, now: DrafterStatistics, before: DrafterStatistics | None, price_per_hour: float) -> None:
        busy = self.busy_seconds
        for name in _TOLD:
            earlier = getattr(before, name) if before else 0
            setattr(self, name, getattr(self, name) + max(0, getattr(now, name) - earlier))
        self.cost += price_per_hour * (self.busy_seconds - busy) / 3600


_TOLD = tuple(field.name for field in fields(DrafterCounts) if field.name != "cost")


@dataclass
class Counts:
    """Of one gateway."""

    timings: Timings = field(default_factory=Timings)
    requests: Counter[tuple[str, str, str]] = field(default_factory=Counter)
    """By model, kind and outcome."""
    models: dict[str, ModelCounts] = field(default_factory=dict)
    drafters: Latest[DrafterCounts] = field(default_factory=lambda: Latest(DrafterCounts))
    failovers: Counter[str] = field(default_factory=Counter)
    """By why: the verifier was lost, or had no room."""
    unkept: int = 0
    """Answers that could not be resumed."""
    pre_verify_steps: int = 0
    post_verify_nodes: int = 0
    step_seconds: float = 0.0
    verifier_wait_seconds: float = 0.0
    drafter_idle_seconds: float = 0.0

    prices: Callable[[str], float] = lambda _: 0.0
    """Of drafters per hour, by name."""

    def of(self, model: str) -> ModelCounts:
        return self.models.setdefault(model, ModelCounts())

    def overlap(self, now: OverlapStatistics, before: OverlapStatistics) -> None:
        """A verifier has told more of a session than before."""
        self.pre_verify_steps += max(0, now.pre_verify_steps - before.pre_verify_steps)
        self.post_verify_nodes += max(0, now.post_verify_nodes - before.post_verify_nodes)
        self.step_seconds += max(0.0, now.step_seconds - before.step_seconds)
        self.verifier_wait_seconds += max(0.0, now.verifier_wait_seconds - before.verifier_wait_seconds)
        self.drafter_idle_seconds += max(0.0, now.drafter_idle_seconds - before.drafter_idle_seconds)
        earlier = {drafter.drafter_id: drafter for drafter in before.drafters}
        for drafter in now.drafters:
            self.drafters.of(drafter.drafter_id).add(
                drafter, earlier.get(drafter.drafter_id), self.prices(drafter.drafter_id)
            )
