"""What happens in a session, event by event: the one source of its statistics, and of whatever else watches it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from paceline.messages import DrafterStatistics, Growth, OverlapStatistics
from paceline.speculation.merge import DraftSource
from paceline.speculation.tree import Node


@dataclass(frozen=True)
class Arrival:
    """Nodes have come from a drafter."""

    at: float
    drafter_id: str
    nodes: Sequence[Node]
    """Those that were new to the tree."""
    idle_seconds: float
    """How long, since its last message, the drafter had nothing to grow for this session."""
    busy_seconds: float
    """And how long it computed for it."""
    seconded: Sequence[Node] = ()
    """Those that others had proposed before it."""
    growth: Growth | None = None
    """Of the nodes, if the session is watched."""


@dataclass(frozen=True)
class Phase:
    """It has waited for a place (``queue``), or its text has been computed (``prefill``); again after a preemption."""

    name: str
    started_at: float
    ended_at: float
    tokens: int = 0
    """That were computed."""


@dataclass(frozen=True)
class Step:
    """A step has decided. Its start is ``launched_at``; the session's root had waited for it since ``rooted_at``."""

    rooted_at: float
    launched_at: float
    decided_at: float
    verified: Sequence[Node]
    accepted: Sequence[Node]
    position: int
    """Of the first token that it emitted."""
    token_ids: Sequence[int]
    """What it emitted: the accepted tokens and the target's next one."""
    drafters: Sequence[str]
    """Those that were to draft when it was launched."""
    growing: bool
    """Whether one of them was growing still: PEARL's pre-verify."""


@dataclass(frozen=True)
class Ended:
    """The session is over, here at least; nothing comes after it."""

    at: float


Event = Arrival | Phase | Step | Ended
Watcher = Callable[[Event], None]


@dataclass
class Totals:
    """Of sessions."""

    steps: int = 0
    verified_nodes: int = 0
    accepted_nodes: int = 0
    pre_verify_steps: int = 0
    post_verify_nodes: int = 0
    verifier_wait_seconds: float = 0.0
    drafter_idle_seconds: float = 0.0
    step_seconds: float = 0.0
    acceptance_histogram: list[int] = field(default_factory=list)

    def count(self, histogram: Sequence[int]) -> None:
        """Adds steps by how many nodes they accepted."""
        known = self.acceptance_histogram
        known.extend([0] * (len(histogram) - len(known)))
        for accepted, steps in enumerate(histogram):
            known[accepted] += steps


class Record:
    """Takes a session's events, adds them up, and hands them on to who watches."""

    def __init__(self) -> None:
        self.totals = Totals()
        self.sources: dict[str, DraftSource] = {}
        """All drafters that were ever here."""
        self.watchers: list[Watcher] = []

    def add(self, event: Event) -> None:
        match event:
            case Arrival():
                self.totals.drafter_idle_seconds += event.idle_seconds
                self.sources[event.drafter_id].busy_seconds += event.busy_seconds
            case Step():
                self._step(event)
        for watcher in self.watchers:
            watcher(event)

    def _step(self, step: Step) -> None:
        totals = self.totals
        totals.steps += 1
        totals.verified_nodes += len(step.verified)
        totals.accepted_nodes += len(step.accepted)
        totals.pre_verify_steps += step.growing
        totals.post_verify_nodes += sum(node.post_verify for node in step.accepted)
        totals.verifier_wait_seconds += step.launched_at - step.rooted_at
        totals.step_seconds += step.decided_at - step.launched_at
        histogram, accepted = totals.acceptance_histogram, len(step.accepted)
        histogram.extend([0] * (accepted + 1 - len(histogram)))
        histogram[accepted] += 1
        for drafter_id in step.drafters:
            self.sources[drafter_id].steps += 1
        for node in step.verified:
            for drafter_id in node.sources:
                self.sources[drafter_id].verified += 1
        for node in step.accepted:
            for drafter_id in node.sources:
                self.sources[drafter_id].accepted += 1
                self.sources[drafter_id].uniquely_accepted += len(node.sources) == 1

    @property
    def emitted(self) -> int:
        """Tokens that its steps have brought; a prompt's last chunk counts as one."""
        return self.totals.accepted_nodes + self.totals.steps

    def statistics(self, drafting: Callable[[str], bool]) -> OverlapStatistics:
        """The sums so far; ``drafting`` says of a drafter whether it is to draft now."""
        drafters = tuple(
            DrafterStatistics(
                name,
                s.proposed,
                s.verified,
                s.accepted,
                s.uniquely_accepted,
                s.stale,
                drafting(name),
                s.steps,
                s.busy_seconds,
                s.rejected,
            )
            for name, s in sorted(self.sources.items())
        )
        totals = vars(self.totals) | {"acceptance_histogram": tuple(self.totals.acceptance_histogram)}
        return OverlapStatistics(drafters=drafters, **totals)
