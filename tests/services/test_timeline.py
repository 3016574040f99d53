"""A session's events in numbers: ids, times and tokens say the same as the record and the text."""

from __future__ import annotations

import itertools
import json
from collections import Counter
from pathlib import Path

import pytest

from drafter_service.drafters.model import ModelDrafter
from drafter_service.drafters.ngram import NgramDrafter
from paceline.messages import NodesArrived, OverlapStatistics, StepDecided, TimelineEvent
from paceline.speculation.sampling import SamplingParameters
from paceline.speculation.tree import DraftTree
from tests.in_process import InProcess, load, make_drafter
from verifier_service.record import Arrival, Record, Step
from verifier_service.timeline import Timeline

PROMPT = [1, 2, 3, 1, 2]
LENGTH = 60
Run = tuple[list[TimelineEvent], list[int], OverlapStatistics]


@pytest.fixture
def run(target_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """A session with two drafters that often say the same: its timeline, its tokens, its statistics."""
    events: list[TimelineEvent] = []
    timeline = Timeline(0.0)
    plain = Record.__init__

    def watched(record: Record) -> None:
        plain(record)
        record.watchers.append(lambda event: events.append(timeline.write(event)))

    monkeypatch.setattr(Record, "__init__", watched)
    drafters = [make_drafter(ModelDrafter(load(target_path)), 64), make_drafter(NgramDrafter(), 64)]
    world = InProcess(load(target_path), drafters)
    world.open("s", PROMPT, SamplingParameters(max_tokens=LENGTH))
    world.run()
    overlap = world.recorder.last["s"].overlap
    assert overlap is not None
    return events, world.recorder.tokens["s"], overlap


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
            for node_id, parent_id, token_id, position, log_score in event.nodes:
                assert known.setdefault(node_id, (parent_id, token_id, position))[1:] == (token_id, position)
                assert parent_id == 0 or known[parent_id][2] == position - 1
                assert log_score <= 0
            continue
        assert set(event.accepted) <= set(event.verified) <= known.keys()
        assert [known[node_id][1] for node_id in event.accepted] == list(event.token_ids[:-1])
        assert [known[node_id][2] for node_id in event.accepted] == [
            event.position + depth for depth in range(len(event.accepted))
        ]
        accepted += len(event.accepted)
    assert accepted > 0


def test_who_guessed_what_adds_up_to_the_statistics(run: Run) -> None:
    """Also where a drafter proposed what another one had proposed before."""
    events, _, overlap = run
    proposers: dict[int, set[str]] = {}
    verified: Counter[str] = Counter()
    accepted: Counter[str] = Counter()
    for event in events:
        if isinstance(event, NodesArrived):
            for node in event.nodes:
                proposers.setdefault(node[0], set()).add(event.drafter_id)
            continue
        for node_id in event.verified:
            verified.update(proposers[node_id])
        for node_id in event.accepted:
            accepted.update(proposers[node_id])
    assert any(len(names) == 2 for names in proposers.values())
    assert {d.drafter_id: (d.verified, d.accepted) for d in overlap.drafters} == {
        d.drafter_id: (verified[d.drafter_id], accepted[d.drafter_id]) for d in overlap.drafters
    }


def test_a_drafter_is_busy_or_idle_between_its_messages() -> None:
    timeline, tree = Timeline(100.0), DraftTree(9, 0)
    node, _ = tree.add(tree.root, 1, -0.5, "d")

    def step(decided_at: float, *drafters: str) -> Step:
        return Step(decided_at - 0.5, decided_at - 0.25, decided_at, [], [], 1, [1], drafters, growing=False)

    def busy(at: float, idle_seconds: float = 0.0) -> float:
        event = timeline.write(Arrival(at, "d", [node], idle_seconds))
        assert isinstance(event, NodesArrived)
        return event.busy_seconds

    timeline.write(step(101.0))
    assert busy(101.5) == 0.5  # it came after the first step
    assert busy(103.5, idle_seconds=0.5) == 1.5
    timeline.write(step(104.0, "d"))
    assert busy(104.5) == 1.0
    timeline.write(step(106.0))  # it had no credit
    assert busy(106.5) == 0.5
    assert busy(106.5, idle_seconds=0.5) == 0.0


def test_events_are_short_json() -> None:
    arrived = NodesArrived(0.1234567, "d", ((1, 0, 7, 4, -0.5149),), 0.0, 0.004)
    assert json.loads(json.dumps(arrived.as_json())) == {
        "type": "arrival",
        "at": 0.123457,
        "drafter": "d",
        "nodes": [[1, 0, 7, 4, -0.51]],
        "idle": 0.0,
        "busy": 0.004,
    }
    decided = StepDecided(0.1, 0.2, 0.3, (1, 2), (1,), (7, 8), 4)
    assert json.loads(json.dumps(decided.as_json())) == {
        "type": "step",
        "rooted": 0.1,
        "launched": 0.2,
        "decided": 0.3,
        "verified": [1, 2],
        "accepted": [1],
        "token_ids": [7, 8],
        "position": 4,
    }
