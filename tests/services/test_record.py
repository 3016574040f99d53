"""A session's record: what watchers see adds up to what the statistics say and to the text itself."""

from __future__ import annotations

from pathlib import Path

import pytest

from drafter_service.drafters.model import ModelDrafter
from drafter_service.drafters.ngram import NgramDrafter
from paceline.speculation.policy import Mode, SpeculationParameters
from paceline.speculation.sampling import SamplingParameters
from tests.in_process import InProcess, load, make_drafter
from verifier_service.record import Arrival, Event, Record, Step

LENGTH = 40


@pytest.mark.parametrize("mode", list(Mode))
def test_events_add_up(mode: Mode, target_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    events: list[Event] = []
    plain = Record.__init__

    def watched(record: Record) -> None:
        plain(record)
        record.watchers.append(events.append)

    monkeypatch.setattr(Record, "__init__", watched)
    kinds = [make_drafter(ModelDrafter(load(target_path)), 64), make_drafter(NgramDrafter(), 64)]
    world = InProcess(load(target_path), kinds)
    world.open("s", [1, 2, 3, 1, 2], SamplingParameters(max_tokens=LENGTH), SpeculationParameters(mode=mode))
    world.run()
    overlap = world.recorder.last["s"].overlap
    assert overlap is not None
    steps = [event for event in events if isinstance(event, Step)]
    arrivals = [event for event in events if isinstance(event, Arrival)]
    assert sum(len(step.accepted) + 1 for step in steps) == LENGTH == len(world.recorder.tokens["s"])
    assert overlap.steps == len(steps)
    assert overlap.verified_nodes == sum(len(step.verified) for step in steps)
    assert overlap.accepted_nodes == sum(len(step.accepted) for step in steps)
    assert overlap.pre_verify_steps == sum(step.growing for step in steps)
    assert overlap.drafter_idle_seconds == pytest.approx(sum(event.idle_seconds for event in arrivals), rel=1e-5)
    for drafter in overlap.drafters:
        theirs = [event.busy_seconds for event in arrivals if event.drafter_id == drafter.drafter_id]
        assert drafter.busy_seconds == pytest.approx(sum(theirs), rel=1e-5)
        assert (drafter.busy_seconds > 0) is (drafter.proposed > 0)
    assert all(step.rooted_at <= step.launched_at <= step.decided_at for step in steps)
    assert bool(arrivals) is (mode is not Mode.OFF)
    assert sum(d.uniquely_accepted for d in overlap.drafters) <= overlap.accepted_nodes
    if mode is not Mode.OFF:
        assert max(d.steps for d in overlap.drafters) > 0
    if mode is not Mode.OVERLAPPED:
        assert overlap.pre_verify_steps == 0
