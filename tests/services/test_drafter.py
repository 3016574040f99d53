"""The drafter's own duties: rounds, limits, rejoining, proposals."""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from drafter_service.drafters.model import ModelDrafter
from drafter_service.drafters.ngram import NgramDrafter
from drafter_service.drafters.suffix import SuffixDrafter
from drafter_service.links import within_bounds
from drafter_service.memory import SuffixMemory
from drafter_service.service import Drafter
from paceline import wire
from paceline.errors import FailedPrecondition, ResourceExhausted
from paceline.messages import (
    Attach,
    AttachEvent,
    DraftNodes,
    DraftUpdate,
    Join,
    Joined,
    Leave,
    Propose,
    RoundComplete,
    Verdict,
    Verdicts,
)
from paceline.speculation.fields import FieldError
from paceline.speculation.merge import MAX_NODES_PER_MESSAGE, NodeColumns
from paceline.speculation.noise import noise_key
from paceline.speculation.policy import Mode, Shape, SpeculationParameters
from paceline.speculation.prefix import prefix_hash
from paceline.speculation.sampling import SamplingParameters
from tests.checkpoints import write_checkpoint
from tests.in_process import load, make_drafter

TEXT = (1, 2, 3, 4, 1, 2, 3, 4, 1, 2)


class Sent:
    """A verifier link that keeps what it is sent."""

    def __init__(self) -> None:
        self.updates: list[DraftUpdate] = []

    def send(self, update: DraftUpdate) -> None:
        self.updates.append(update)

    def tokens(self) -> list[int]:
        return [int(t) for update in self.updates for nodes in update.nodes for t in nodes.columns.token_ids]


def attach(
    mode: Mode = Mode.OVERLAPPED, tokens: tuple[int, ...] = TEXT, session_id: str = "s", **speculation: object
) -> Attach:
    parameters = SpeculationParameters(mode=mode, **speculation)  # type: ignore[arg-type]
    return Attach(session_id, 1, "here", tokens, len(tokens), SamplingParameters(), parameters, 7, b"key")


def joined_drafter(drafter: Drafter, request: Attach, node_limit: int = 512) -> tuple[Sent, list[AttachEvent]]:
    link, events = Sent(), list[AttachEvent]()
    drafter.attach(request, link, events.append)
    drafter.receive(Verdicts(joined=(Joined("s", 1, len(request.token_ids), (), node_limit),)), link)
    return link, events


def verdict(position: int, tokens: tuple[int, ...], whole: tuple[int, ...], *, ended: bool = False) -> Verdicts:
    return Verdicts(verdicts=(Verdict("s", 1, position, tokens, prefix_hash(whole), ended, 100_000),))


def test_a_finished_session_is_remembered_to_its_last_token() -> None:
    memory = SuffixMemory(10_000, 10)
    drafter = make_drafter(SuffixDrafter(memory), 0)
    link, _ = joined_drafter(drafter, attach())
    drafter.receive(verdict(len(TEXT), (7, 8), (*TEXT, 7, 8)), link)
    drafter.receive(verdict(len(TEXT) + 2, (9, 10), (*TEXT, 7, 8, 9, 10), ended=True), link)
    drafter.grow()
    memory.settle()
    (segment,) = memory.segments("")
    assert segment.tokens.tolist()[1:-1] == [10, 9, 8, 7, *reversed(TEXT)]


def test_ngram_proposes_what_followed_the_last_time() -> None:
    drafter = make_drafter(NgramDrafter(), 0)
    link, _ = joined_drafter(drafter, attach())
    drafter.grow()
    assert link.tokens() == [3, 4, 1, 2, 3, 4, 1, 2], "what followed each earlier occurrence, one branch here"


def test_the_time_of_a_growth_is_shared_by_the_sessions_that_grew() -> None:
    ticks = itertools.count()
    drafter = Drafter(NgramDrafter(), drafter_id="d", vocabulary_size=0, max_context=512, clock=lambda: next(ticks))
    link, _ = joined_drafter(drafter, attach())
    drafter.attach(attach(session_id="t"), link, lambda _: None)
    drafter.receive(Verdicts(joined=(Joined("t", 1, len(TEXT), (), 512),)), link)
    drafter.grow()
    said = {nodes.session_id: nodes.busy_seconds for nodes in link.updates[-1].nodes}
    assert said == {"s": 0.5, "t": 0.5}
    drafter.receive(verdict(10, (3,), (*TEXT, 3)), link)
    drafter.grow()
    (again,) = link.updates[-1].nodes
    assert (again.session_id, again.busy_seconds) == ("s", 1.0)


def test_growth_stays_within_the_node_limit(target_path: Path) -> None:
    drafter = make_drafter(ModelDrafter(load(target_path)), 64)
    link, _ = joined_drafter(drafter, attach(), node_limit=5)
    for _ in range(10):
        drafter.grow()
    assert len(link.tokens()) == 5
    drafter.receive(verdict(10, (9,), (*TEXT, 9)), link)
    drafter.grow()
    assert len(link.tokens()) > 5


def test_lockstep_sends_one_message_a_round_and_then_waits(target_path: Path) -> None:
    drafter = make_drafter(ModelDrafter(load(target_path)), 64)
    link, _ = joined_drafter(drafter, attach(Mode.LOCKSTEP, draft_depth=3))
    for _ in range(10):
        drafter.grow()
    rounds = [update for update in link.updates if update.rounds]
    assert len(rounds) == 1
    assert rounds[0].rounds[0].root_position == 9
    assert len([update for update in link.updates if update.nodes]) <= 1


def test_a_chain_has_no_siblings(target_path: Path) -> None:
    drafter = make_drafter(ModelDrafter(load(target_path)), 64)
    link, _ = joined_drafter(drafter, attach(shape=Shape.CHAIN))
    for _ in range(10):
        drafter.grow()
    parents = [int(p) for update in link.updates for nodes in update.nodes for p in nodes.columns.parent_ids]
    assert parents == list(range(len(parents)))


def test_a_gap_makes_it_join_again() -> None:
    drafter = make_drafter(NgramDrafter(), 0)
    link, _ = joined_drafter(drafter, attach())
    drafter.grow()
    drafter.receive(verdict(12, (5,), (*TEXT, 9, 9, 5)), link)
    drafter.grow()
    (again,) = link.updates[-1].joins
    assert (again.have_length, again.prefix_hash) == (10, prefix_hash(TEXT))


def test_repeated_verdicts_are_harmless() -> None:
    drafter = make_drafter(NgramDrafter(), 0)
    link, events = joined_drafter(drafter, attach())
    for _ in range(3):
        drafter.receive(verdict(10, (3, 4), (*TEXT, 3, 4)), link)
        drafter.grow()
    assert drafter.attached_sessions == 1
    assert len(events) == 1


def test_another_text_than_the_verifiers_ends_the_drafting() -> None:
    drafter = make_drafter(NgramDrafter(), 0)
    link, events = joined_drafter(drafter, attach())
    drafter.receive(verdict(10, (3,), (9, 9)), link)
    drafter.grow()
    assert drafter.attached_sessions == 0
    assert "prefix hash" in str(events[-1])


def test_refusals(target_path: Path) -> None:
    drafter = Drafter(NgramDrafter(), drafter_id="d", vocabulary_size=64, max_context=16, max_sessions=1)
    with pytest.raises(FieldError, match="token_ids = 64"):
        drafter.attach(attach(tokens=(64,)), Sent(), lambda _: None)
    with pytest.raises(FailedPrecondition, match="16 tokens do not fit"):
        drafter.attach(attach(tokens=(1,) * 16), Sent(), lambda _: None)
    drafter.attach(attach(), Sent(), lambda _: None)
    with pytest.raises(ResourceExhausted, match="drafts for 1 sessions already"):
        drafter.attach(attach(session_id="t"), Sent(), lambda _: None)


def test_blocks_are_freed_when_sessions_leave(target_path: Path) -> None:
    runner = load(target_path)
    drafter = make_drafter(ModelDrafter(runner), 64)
    link = Sent()
    member = drafter.attach(attach(), link, lambda _: None)
    drafter.receive(Verdicts(joined=(Joined("s", 1, len(TEXT), (), 512),)), link)
    for _ in range(3):
        drafter.grow()
    assert runner.cache.pool.free < runner.cache.pool.num_blocks
    drafter.detach(member)
    drafter.grow()
    assert runner.cache.pool.free == runner.cache.pool.num_blocks


def test_propose_gives_one_round_without_a_verifier(target_path: Path) -> None:
    drafter = make_drafter(ModelDrafter(load(target_path)), 64)
    updates: list[DraftUpdate] = []
    request = Propose(TEXT, SamplingParameters(), SpeculationParameters(draft_depth=2), noise_key(1, 0, TEXT))
    member = drafter.propose(request, updates.append, lambda _: None)
    for _ in range(6):
        drafter.grow()
    assert len(updates) == 1
    assert updates[0].nodes
    assert updates[0].rounds
    drafter.detach(member)
    drafter.grow()
    assert drafter.attached_sessions == 0


def test_a_text_that_outgrows_the_draft_context_is_only_drafted_no_further(tmp_path: Path) -> None:
    """The draft's context is shorter than the target's: drafting ends there, quietly."""
    runner = load(write_checkpoint(tmp_path, max_position_embeddings=24))
    drafter = Drafter(ModelDrafter(runner), drafter_id="d", vocabulary_size=64, max_context=24)
    link, _ = joined_drafter(drafter, attach())
    text: tuple[int, ...] = TEXT
    for _ in range(30):
        for _ in range(4):
            drafter.grow()
        text = (*text, 5)
        drafter.receive(verdict(len(text) - 1, (5,), text), link)
    drafter.grow()
    deepest = max(nodes.columns.root_position for update in link.updates for nodes in update.nodes)
    assert 20 <= deepest <= 24
    assert drafter.attached_sessions == 1


def test_a_late_detach_does_not_end_the_replacement() -> None:
    drafter = make_drafter(NgramDrafter(), 0)
    first = drafter.attach(attach(), Sent(), lambda _: None)
    second = drafter.attach(attach(), Sent(), lambda _: None)
    drafter.grow()
    drafter.detach(first)
    drafter.grow()
    assert (drafter.attached_sessions, first.over, second.over) == (1, True, False)
    assert second.session.incarnation > first.session.incarnation


def test_tokens_outside_the_draft_vocabulary_end_the_drafting_alone(target_path: Path) -> None:
    drafter = make_drafter(ModelDrafter(load(target_path)), 64)
    link, events = joined_drafter(drafter, attach())
    other = drafter.attach(attach(session_id="t"), link, lambda _: None)
    drafter.grow()
    drafter.receive(verdict(10, (64,), (*TEXT, 64)), link)
    drafter.grow()
    assert "outside the vocabulary" in str(events[-1])
    assert (drafter.attached_sessions, other.over) == (1, False)


def test_a_full_cache_ends_one_sessions_drafting(target_path: Path) -> None:
    drafter = make_drafter(ModelDrafter(load(target_path, cache_tokens=320)), 64)
    link, events = joined_drafter(drafter, attach())
    refused: list[AttachEvent] = []
    drafter.attach(attach(session_id="t"), link, refused.append)
    drafter.receive(Verdicts(joined=(Joined("t", 1, len(TEXT), (), 512),)), link)
    for _ in range(3):
        drafter.grow()
    assert "KV blocks" in str(refused[-1])
    assert len(events) == 1
    assert drafter.attached_sessions == 1


@pytest.mark.parametrize(
    ("field", "changed"),
    [
        ("prompt_length", {"prompt_length": 0}),
        ("logit_bias", {"sampling": SamplingParameters(logit_bias=((64, 1.0),))}),
        ("max_tokens", {"prompt_length": 5, "sampling": SamplingParameters(max_tokens=5)}),
    ],
)
def test_what_cannot_be_is_refused(field: str, changed: dict[str, Any]) -> None:
    drafter = make_drafter(NgramDrafter(), 64)
    with pytest.raises(FieldError, match=field):
        drafter.attach(replace(attach(), **changed), Sent(), lambda _: None)


def test_what_gathers_while_a_verifier_is_slow_is_never_too_much_for_a_message() -> None:
    """Else an honest drafter with many sessions would be shown out as malformed."""
    empty = np.zeros(0)
    columns = NodeColumns(1, 0, np.ones(256, np.uint32), np.zeros(256, np.uint64), np.zeros(256, np.float32))
    bare = NodeColumns(1, 0, empty.astype(np.uint32), empty.astype(np.uint64), empty.astype(np.float32))
    batch = [
        DraftUpdate(
            joins=tuple(Join(f"{turn}-{i}", 1, "d", 1, b"", 1, 0) for i in range(700)),
            nodes=tuple(DraftNodes(f"{turn}-{i}", 1, bare if i % (9 + 100 * turn) else columns) for i in range(1200)),
            rounds=tuple(RoundComplete(f"{turn}-{i}", 1, 0) for i in range(500)),
            leaves=tuple(Leave(f"{turn}-{i}") for i in range(600)),
        )
        for turn in range(3)
    ]
    messages = list(within_bounds(batch))
    for message in messages:
        read, unreadable = wire.from_draft_update(wire.to_draft_update(message))
        assert not unreadable
        assert sum(len(nodes.columns) for nodes in read.nodes) <= MAX_NODES_PER_MESSAGE
    for kind in ("joins", "nodes", "rounds", "leaves"):
        said = [item for update in batch for item in getattr(update, kind)]
        assert [item for message in messages for item in getattr(message, kind)] == said
    last_nodes = max(index for index, message in enumerate(messages) if message.nodes)
    assert not any(message.rounds or message.leaves for message in messages[:last_nodes])


def test_a_few_updates_leave_as_one_message() -> None:
    updates = [DraftUpdate(leaves=(Leave("a"),)), DraftUpdate(rounds=(RoundComplete("b", 1, 2),))]
    assert list(within_bounds(updates)) == [DraftUpdate(rounds=updates[1].rounds, leaves=updates[0].leaves)]


def test_a_session_that_is_attached_anew_is_not_left_after_its_join() -> None:
    """As when it is opened again, and the old attachment ends only then: the verifier would take the leave for it."""
    drafter, link = make_drafter(NgramDrafter(), 0), Sent()
    old = drafter.attach(attach(), link, lambda _: None)
    drafter.grow()
    drafter.detach(old)
    drafter.attach(attach(), link, lambda _: None)
    drafter.grow()
    assert [bool(update.leaves) for update in link.updates] == [False, False]
    assert drafter.attached_sessions == 1
    elsewhere = Sent()
    drafter.attach(attach(), elsewhere, lambda _: None)
    drafter.grow()
    assert drafter.attached_sessions == 1
