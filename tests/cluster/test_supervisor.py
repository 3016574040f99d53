"""Who ends is started again, later each time, and not for ever."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from paceline.cluster.child import Worker
from paceline.cluster.supervisor import PAUSE_SECONDS, RESTARTS, WINDOW_SECONDS, Supervisor
from paceline.errors import Unavailable


class World:
    """A worker that ends at once, its supervisor, and a clock that we turn."""

    def __init__(self, folder: Path) -> None:
        command = [sys.executable, "-Sc", "import sys; print('no luck'); sys.exit(3)"]
        self.worker = Worker("frail", "", command, os.environ, folder / "log")
        self.worker.start()
        self.now, self.said = 1000.0, list[str]()
        self.supervisor = Supervisor([self.worker], self.said.append, lambda: self.now)

    def ends(self) -> None:
        """It has ended and the supervisor has seen it."""
        self.worker.process.wait(10)
        self.supervisor.look()

    def later(self, seconds: float) -> bool:
        """Whether the worker was started then."""
        before = self.worker.process
        self.now += seconds
        self.supervisor.look()
        return self.worker.process is not before


def test_pauses_double_and_the_sixth_end_within_a_minute_is_the_last(tmp_path: Path) -> None:
    world = World(tmp_path)
    for restart in range(RESTARTS):
        world.ends()
        pause = PAUSE_SECONDS * 2**restart
        assert not world.later(pause * 0.9)
        assert world.later(pause * 0.2)
    with pytest.raises(Unavailable, match="frail ended with status 3, after 5 restarts within 60 s\nno luck"):
        world.ends()
    world.worker.end()
    assert len(world.said) == RESTARTS
    assert world.said[1] == "frail ended with status 3; it is started again in 1.0 s"


def test_what_is_long_ago_is_forgotten(tmp_path: Path) -> None:
    world = World(tmp_path)
    for _ in range(2 * RESTARTS):
        world.ends()
        assert world.later(WINDOW_SECONDS + 1)
    world.worker.end()
    assert all("again in 0.5 s" in said for said in world.said)
