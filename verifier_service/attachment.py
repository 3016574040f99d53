"""A drafter's place in a session, and the links to those that a session speaks to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from paceline.messages import SessionEvent, Verdicts
from paceline.speculation.estimate import Calibration
from paceline.speculation.merge import DraftSource
from paceline.speculation.merit import Merit
from paceline.speculation.policy import Rhythm


class GatewayLink(Protocol):
    """Takes a step's events for one gateway; may be called from any thread and never blocks."""

    def send(self, events: Sequence[SessionEvent]) -> None: ...


class DrafterLink(Protocol):
    """Takes a step's verdicts for one drafter; may be called from any thread and never blocks."""

    def send(self, verdicts: Verdicts) -> None: ...


@dataclass
class Attachment:
    """A drafter's place in a session."""

    source: DraftSource
    link: DrafterLink
    rhythm: Rhythm
    calibration: Calibration
    """The drafter's, over all sessions; so is its merit."""
    merit: Merit
    told: int
    """Tokens of the text that it has been told."""
    on: bool = True
    """Whether it is to draft; else it gets no credit, and hears of the text only now and then."""
    pays: bool = True
    """Whether drafting by it pays with so many sessions running, as far as is certain."""
    complete_root: int = -1
    """Lockstep: the root that its last round was complete for."""
    missed_rounds: int = 0
    """Lockstep: steps in a row that were launched before its round was complete."""
    wants_candidates: bool = False
    """Whether it learns from the target's best tokens."""
