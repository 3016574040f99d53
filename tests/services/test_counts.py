"""What a verifier and a drafter count is what sessions say, at any time and of any number of them."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest

from drafter_service.drafters.model import ModelDrafter
from drafter_service.drafters.ngram import NgramDrafter
from paceline.messages import AbortSession
from paceline.speculation.policy import Mode, SpeculationParameters
from paceline.speculation.sampling import SamplingParameters
from tests.in_process import InProcess, load, make_drafter
from verifier_service.counts import Counts
from verifier_service.table import Limits

PROMPT = [1, 2, 3, 1, 2]
LENGTHS = {"a": 24, "b": 40, "c": 7, "d": 30}
GROWING = ("steps", "rows", "prompt_rows", "offered_nodes", "paying_nodes", "prompt_tokens", "cached_tokens")


def sums(counts: Counts) -> list[float]:
    """All that may only grow."""
    totals = vars(counts.sessions) | {"acceptance_histogram": sum(counts.sessions.acceptance_histogram)}
    drafters = [value for drafter in counts.drafters.values() for value in vars(drafter).values()]
    return [*(getattr(counts, name) for name in GROWING), *totals.values(), sum(drafters)]


@pytest.mark.parametrize("mode", list(Mode))
def test_sums_are_those_of_all_sessions_and_never_fall(mode: Mode, target_path: Path) -> None:
    kinds = [make_drafter(ModelDrafter(load(target_path)), 64), make_drafter(NgramDrafter(), 64)]
    world = InProcess(load(target_path), kinds, Limits(max_sessions=2))
    for name, length in LENGTHS.items():
        world.open(name, PROMPT, SamplingParameters(max_tokens=length), SpeculationParameters(mode=mode))
    told = [sums(world.verifier.figures().counts)]

    def look(turn: int) -> None:
        told.append(sums(world.verifier.figures().counts))
        if turn == 6:
            world.verifier.command(AbortSession("d", 1), world.recorder)

    world.run(between=look)
    figures = world.verifier.figures()
    counts, overlaps = figures.counts, [event.overlap for event in world.recorder.last.values() if event.overlap]
    for before, after in itertools.pairwise(told):
        assert all(earlier <= later for earlier, later in zip(before, after, strict=True))
    assert len(overlaps) == len(LENGTHS)
    emitted = sum(map(len, world.recorder.tokens.values()))
    assert counts.sessions.steps + counts.sessions.accepted_nodes == emitted
    assert counts.sessions.verified_nodes == sum(overlap.verified_nodes for overlap in overlaps)
    assert counts.sessions.accepted_nodes == sum(overlap.accepted_nodes for overlap in overlaps)
    assert sum(counts.sessions.acceptance_histogram) == counts.sessions.steps
    assert counts.ended == {"length": 3, "abort": 1}
    assert (figures.running, figures.waiting, figures.free_blocks) == (0, 0, figures.blocks)
    first_steps = counts.prompt_tokens // len(PROMPT)  # the last chunk of a prompt ends with the root
    assert counts.rows == counts.prompt_rows + counts.sessions.steps - first_steps + counts.sessions.verified_nodes
    for drafter_id, drafter in counts.drafters.items():
        mine = [each for overlap in overlaps for each in overlap.drafters if each.drafter_id == drafter_id]
        for name in ("proposed", "verified", "accepted", "uniquely_accepted", "stale", "steps"):
            assert getattr(drafter, name) == sum(getattr(each, name) for each in mine), name
        assert drafter.accepted <= drafter.tested
        assert 0 <= drafter.promised <= drafter.tested


def test_a_drafter_counts_what_it_sends(target_path: Path) -> None:
    drafter = make_drafter(NgramDrafter(), 64)
    world = InProcess(load(target_path), [drafter])
    for name in ("a", "b"):
        world.open(name, [1, 2, 3, 1, 2, 3], SamplingParameters(max_tokens=40))
    world.run()
    counts = drafter.counts
    (link,) = counts.links.values()
    sent = [each for event in world.recorder.last.values() if event.overlap for each in event.overlap.drafters]
    assert list(counts.links) == ["here"]
    assert link.nodes >= sum(each.proposed for each in sent) > 0
    assert 0 < counts.growths <= counts.grown_sessions
    assert link.busy_seconds == pytest.approx(counts.busy_seconds)
    told = sum(each.busy_seconds for each in sent)
    assert counts.busy_seconds * (1 + 1e-6) >= told > 0  # which has travelled as float32
