"""What an emulation has cost is told, and doubted where the machine could not bear it."""

from __future__ import annotations

import os
import threading
from dataclasses import replace

from paceline.emulation import Lateness
from paceline.experiments.live.effort import MOST_LATE, MOST_WAITED, Effort, Reading

BEFORE = Reading(100.0, {"a": 1.0, "client": 2.0}, {1: 0.0, 2: 5.0}, 50.0, {"a": Lateness(50, 5, 1.0, 0.5)})
AFTER = Reading(110.0, {"a": 3.0, "client": 2.5}, {1: 0.1, 2: 5.2, 3: 0.05}, 55.0, {"a": Lateness(150, 10, 9.0, 0.6)})


def test_an_effort_is_what_came_between() -> None:
    effort = Effort.between(BEFORE, AFTER)
    assert (effort.seconds, effort.cpu_seconds, effort.forwards, effort.missed) == (10.0, 2.5, 100, 0.05)
    assert abs(effort.late - 0.01) < 1e-9
    assert abs(effort.waited - 0.02) < 1e-9
    assert abs(effort.busy - (1 - 5.0 / (10.0 * (os.cpu_count() or 1)))) < 1e-9
    assert effort.doubts == []
    assert effort.notes()["valid"] == "yes"


def test_lateness_and_waits_are_doubted() -> None:
    effort = Effort.between(BEFORE, AFTER)
    late, waited = replace(effort, late=2 * MOST_LATE), replace(effort, waited=2 * MOST_WAITED)
    assert late.notes()["valid"] == "no: a worker's forwards were late by 6% of the time"
    assert waited.notes()["valid"] == "no: a thread waited for a processor 10% of the time"
    assert len(replace(late, waited=1.0).doubts) == 2


def test_this_process_is_read() -> None:
    before = Reading.now([])
    sum(range(2_000_000))
    after = Reading.now([])
    assert threading.get_native_id() in after.waited_seconds
    assert after.fleet_seconds["client"] > before.fleet_seconds["client"]
    assert after.idle_seconds >= before.idle_seconds
