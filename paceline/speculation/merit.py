"""Drafters that are never right draft no more for a while, without a trial."""

from __future__ import annotations

ENOUGH_NODES, ENOUGH_STEPS, MANY_STEPS = 1024, 32, 512
"""A drafter that sends much is judged soon; one that sends little costs a message a step, and is judged later."""
POOR = 0.02
"""Accepted tokens per step of a session, below which nobody would miss them."""
FIRST_REST, LONGEST_REST = 256, 6144
"""Steps of the verifier; four times as many each time that it was no better."""


class Merit:
    """What has come of one drafter's nodes, over all its sessions, since it was last judged."""

    def __init__(self) -> None:
        self._nodes = self._steps = self._accepted = 0
        self._resting, self._next_rest = 0, FIRST_REST

    @property
    def rests(self) -> bool:
        """Whether it is to draft for nobody now."""
        return self._resting > 0

    def sent(self, nodes: int) -> None:
        """So many new nodes have come from it."""
        self._nodes += nodes

    def step(self, accepted: int) -> None:
        """A step of a session that it drafted for accepted so many of its nodes."""
        self._steps += 1
        self._accepted += accepted
        if (self._nodes >= ENOUGH_NODES and self._steps >= ENOUGH_STEPS) or self._steps >= MANY_STEPS:
            self._judge()

    def turn(self) -> None:
        """The verifier has made a step."""
        self._resting = max(0, self._resting - 1)

    def _judge(self) -> None:
        if self._accepted < POOR * self._steps:
            self._resting, self._next_rest = self._next_rest, min(4 * self._next_rest, LONGEST_REST)
        else:
            self._next_rest = FIRST_REST
        self._nodes = self._steps = self._accepted = 0
