"""A session's events in numbers: ids, times and tokens say the same as the record and the text."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from drafter_service.drafters.model import ModelDrafter
from drafter_service.drafters.ngram import NgramDrafter
from drafter_service.session import DraftSession
from paceline import wire
from paceline.messages import (
    DraftingEvent,
    NodesArrived,
    OverlapStatistics,
    PhaseEnded,
    SessionEvent,
    SessionPlaced,
    StepDecided,
)
from paceline.speculation.policy import SpeculationParameters
from paceline.speculation.sampling import SamplingParameters
from tests.drafter_service.growing import session_of
from tests.in_process import InProcess, load, make_drafter

PROMPT = [1, 2, 3, 1, 2]
LENGTH = 60
Run = tuple[list[DraftingEvent], list[int], OverlapStatistics]


@pytest.fixture
def run(target_path: Path) -> Run:
    """A session with two drafters that often say the same: its timeline, its tokens, its statistics."""
    drafters = [make_drafter(ModelDrafter(load(target_path)), 64), make_drafter(NgramDrafter(), 64)]
    world, told = InProcess(load(target_path), drafters), list[DraftingEvent]()
    send = world.recorder.send

    def listen(events: Sequence[SessionEvent]) -> None:
        told.extend(item for event in wire.from_decode_events(wire.to_decode_events(events)) for item in event.events)
        send(events)

    world.recorder.send = listen  # type: ignore[method-assign]
    world.open("s", PROMPT, SamplingParameters(max_tokens=LENGTH), SpeculationParameters(events=True))
    world.run()
    overlap = world.recorder.last["s"].overlap
    assert overlap is not None
    return told, world.recorder.tokens["s"], overlap


def nodes(event: NodesArrived) -> Iterator[tuple[int, int, int, int, float]]:
    columns = event.node_ids, event.parent_ids, event.token_ids, event.positions, event.log_scores
    return zip(*columns, strict=True)


def test_steps_tell_the_text(run: Run) -> None:
    events, tokens, _ = run
    steps = [event for event in events if isinstance(event, StepDecided)]
    assert list(itertools.chain(*(step.token_ids for step in steps))) == tokens
    positions = [step.position for step in steps]
    assert positions == [len(PROMPT) + sum(len(s.token_ids) for s in steps[:i]) for i in range(len(steps))]
    assert all(step.rooted_at <= step.launched_at <= step.decided_at for step in steps)


def test_accepted_nodes_carry_the_tokens_that_were_emitted(run: Run) -> None:
    """A node is known before it is verified, its parent before it, one position above; parent 0 is the root."""
    events, _, _ = run
    known: dict[int, tuple[int, int, int]] = {}
    accepted = 0
    for event in events:
        if isinstance(event, NodesArrived):
            for node_id, parent_id, token_id, position, log_score in nodes(event):
                assert known.setdefault(node_id, (parent_id, token_id, position))[1:] == (token_id, position)
                assert parent_id == 0 or known[parent_id][2] == position - 1
                assert log_score <= 0
            continue
        if not isinstance(event, StepDecided):
            continue
        assert set(event.accepted_ids) <= set(event.verified_ids) <= known.keys()
        assert [known[node_id][1] for node_id in event.accepted_ids] == list(event.token_ids[:-1])
        assert [known[node_id][2] for node_id in event.accepted_ids] == [
            event.position + depth for depth in range(len(event.accepted_ids))
        ]
        accepted += len(event.accepted_ids)
    assert accepted > 0


def test_who_guessed_what_adds_up_to_the_statistics(run: Run) -> None:
    """Also where a drafter proposed what another one had proposed before."""
    events, _, overlap = run
    proposers: dict[int, set[str]] = {}
    verified: Counter[str] = Counter()
    accepted: Counter[str] = Counter()
    for event in events:
        if isinstance(event, NodesArrived):
            for node_id in event.node_ids:
                proposers.setdefault(node_id, set()).add(event.drafter_id)
            continue
        if not isinstance(event, StepDecided):
            continue
        for node_id in event.verified_ids:
            verified.update(proposers[node_id])
        for node_id in event.accepted_ids:
            accepted.update(proposers[node_id])
    assert any(len(names) == 2 for names in proposers.values())
    assert {d.drafter_id: (d.verified, d.accepted) for d in overlap.drafters} == {
        d.drafter_id: (verified[d.drafter_id], accepted[d.drafter_id]) for d in overlap.drafters
    }


def test_a_record_begins_where_the_session_was_placed_and_waited(run: Run) -> None:
    """Then come waiting, the prompt, and steps that follow on one another."""
    events, _, _ = run
    assert isinstance(events[0], SessionPlaced)
    assert events[0].epoch == 1
    phases = [event for event in events if isinstance(event, PhaseEnded)]
    assert [(phase.name, phase.role) for phase in phases] == [("queue", "verifier"), ("prefill", "verifier")]
    queue, prefill = phases
    assert 0 <= queue.started <= queue.ended <= prefill.started <= prefill.ended
    assert prefill.tokens == len(PROMPT) - 1


def test_nodes_say_when_they_were_grown_and_sent(run: Run) -> None:
    """By the drafter's clock, one after the other."""
    events, _, _ = run
    arrivals = [event for event in events if isinstance(event, NodesArrived)]
    assert all(0 < event.grown_from <= event.sent_at for event in arrivals)
    for drafter in {event.drafter_id for event in arrivals}:
        sent = [event.sent_at for event in arrivals if event.drafter_id == drafter]
        assert sent == sorted(sent)


def test_a_growth_begins_where_the_first_of_its_nodes_does() -> None:
    """Not with those before it that came to nothing."""
    attached = session_of(PROMPT)
    session = DraftSession(replace(attached.attach, speculation=SpeculationParameters(events=True)), 0, 1 << 20)
    session.about_to_grow(1.0)
    session.about_to_grow(2.0)
    session.add(session.tree.root, 7, -1.0)
    session.about_to_grow(3.0)
    growth = session.take_growth(5.0)
    assert growth is not None
    assert growth.sent - growth.started == pytest.approx(3.0)
    assert session.take_growth(6.0) is None
