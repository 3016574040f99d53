"""The verifier refuses what is wrong by name, and a bad entry costs nobody else anything."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from drafter_service.drafters.model import ModelDrafter
from paceline.engine.batch import Rows
from paceline.engine.runner import Logits, ModelRunner
from paceline.messages import (
    AbortSession,
    DraftNodes,
    DraftUpdate,
    FinishReason,
    Join,
    Leave,
    OpenSession,
    RevokeDrafter,
    Status,
    Verdicts,
    drafter_key,
)
from paceline.speculation.merge import MAX_ENTRIES, MAX_NODES_PER_MESSAGE, NodeColumns
from paceline.speculation.policy import NO_SCOPE, Mode, SpeculationParameters
from paceline.speculation.prefix import prefix_hash
from paceline.speculation.sampling import SamplingParameters
from tests.in_process import SECRET, InProcess, load, make_drafter
from verifier_service.drafting import EARLY_JOIN_SECONDS
from verifier_service.servicer import PATIENCE, PATIENCE_PER_SECOND, Backpressure
from verifier_service.table import Limits

SAMPLING = SamplingParameters(max_tokens=20)
OPENING = OpenSession("s", 1, (1, 2, 3), 3, SAMPLING, SpeculationParameters(), 7, SECRET)


class Listener:
    """A drafter link that only listens."""

    def __init__(self) -> None:
        self.heard: list[Verdicts] = []

    def send(self, verdicts: Verdicts) -> None:
        self.heard.append(verdicts)

    @property
    def refusals(self) -> list[tuple[Status, str]]:
        return [(r.status, r.detail) for verdicts in self.heard for r in verdicts.rejected]


def join(session_id: str = "s", **changes: object) -> Join:
    key = drafter_key(SECRET, session_id, "d", 1)
    plain = Join(session_id, 1, "d", 5, key, 3, prefix_hash((1, 2, 3)))
    return replace(plain, **changes)  # type: ignore[arg-type]


def nodes(tokens: list[int], parents: list[int], first: int = 1, root: int = 2, session_id: str = "s") -> DraftNodes:
    columns = NodeColumns(
        first, root, np.array(tokens, np.uint32), np.array(parents, np.uint64), np.zeros(len(tokens), np.float32)
    )
    return DraftNodes(session_id, 1, columns)


@pytest.fixture(scope="module")
def target(target_path: Path) -> ModelRunner:
    return load(target_path)


@pytest.mark.parametrize(
    ("opening", "says"),
    [
        (replace(OPENING, token_ids=(), prompt_length=0), "token_ids = 0: expected at least one token"),
        (replace(OPENING, token_ids=(1, 64)), "prompt_length"),
        (replace(OPENING, token_ids=(1, 64), prompt_length=2), "token_ids = 64: expected below 64"),
        (replace(OPENING, token_ids=(1,) * 512, prompt_length=512), "expected fewer than the context's 512"),
        (replace(OPENING, session_id=""), "session_id = ''"),
        (replace(OPENING, prompt_length=1, sampling=SamplingParameters(max_tokens=2)), "max_tokens = 2"),
    ],
)
def test_bad_openings_are_refused_by_name(target: ModelRunner, opening: OpenSession, says: str) -> None:
    world = InProcess(target)
    world.verifier.command(opening, world.recorder)
    rejection = world.recorder.rejected[opening.session_id]
    assert rejection.status is Status.INVALID_ARGUMENT
    assert says in rejection.detail
    assert not world.verifier.busy


def test_a_full_queue_refuses(target: ModelRunner) -> None:
    world = InProcess(target, limits=Limits(max_sessions=1, max_waiting=2))
    for index in range(4):
        world.open(f"s{index}", [1, 2, 3], SAMPLING)
    assert [r.status for r in world.recorder.rejected.values()] == [Status.RESOURCE_EXHAUSTED] * 2
    world.run()
    assert sorted(world.recorder.finished) == ["s0", "s1"]


def test_sessions_wait_for_blocks_and_all_finish(target_path: Path) -> None:
    world = InProcess(load(target_path, cache_tokens=600))
    for index in range(4):
        world.open(f"s{index}", [1, 2, 3], SAMPLING, seed=index)
    world.run()
    assert set(world.recorder.finished.values()) == {FinishReason.LENGTH}
    assert len(world.recorder.finished) == 4


@pytest.mark.parametrize(
    ("entry", "says"),
    [
        (nodes([64], [0]), "token_ids = 64"),
        (nodes([1], [5]), "parent_ids = 5"),
        (nodes([1], [0], root=9), "root_position = 9"),
        (nodes([1], [0], first=100_000), "node_limit"),
    ],
)
def test_a_malformed_drafter_loses_its_place_and_nobody_else_anything(
    target: ModelRunner, entry: DraftNodes, says: str
) -> None:
    world, bad, good = InProcess(target), Listener(), Listener()
    for name in ("s", "t"):
        world.verifier.command(replace(OPENING, session_id=name), world.recorder)
        world.verifier.update(DraftUpdate(joins=(join(name),)), bad)
    other = join("s", drafter_id="e", key=drafter_key(SECRET, "s", "e", 1))
    world.verifier.update(DraftUpdate(joins=(other,)), good)
    world.verifier.update(DraftUpdate(nodes=(entry, nodes([4, 5], [0, 1], session_id="t"))), bad)
    world.verifier.update(DraftUpdate(nodes=(nodes([6], [0]),)), good)
    assert [status for status, _ in bad.refusals] == [Status.INVALID_ARGUMENT]
    assert says in bad.refusals[0][1]
    world.run()
    drafted = {
        name: {d.drafter_id: d.proposed for d in event.overlap.drafters}
        for name, event in world.recorder.last.items()
        if event.overlap
    }
    assert drafted == {"s": {"d": 0, "e": 1}, "t": {"d": 2}}
    alone = InProcess(target)
    alone.verifier.command(OPENING, alone.recorder)
    alone.run()
    assert world.recorder.tokens["s"] == alone.recorder.tokens["s"] == world.recorder.tokens["t"]


def test_an_overlong_message_is_cut_off(target: ModelRunner) -> None:
    world, link = InProcess(target), Listener()
    count = MAX_NODES_PER_MESSAGE // 256 + 1
    for index in range(count):
        world.verifier.command(replace(OPENING, session_id=f"s{index}"), world.recorder)
        world.verifier.update(DraftUpdate(joins=(join(f"s{index}"),)), link)
    wide = [nodes([1] * 256, [0] * 256, session_id=f"s{index}") for index in range(count)]
    world.verifier.update(DraftUpdate(nodes=tuple(wide)), link)
    assert len(link.refusals) == 1
    assert f"expected at most {MAX_NODES_PER_MESSAGE}" in link.refusals[0][1]


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (join(key=b"guessed"), Status.PERMISSION_DENIED),
        (join(drafter_id="someone else"), Status.PERMISSION_DENIED),
        (join(epoch=0), Status.FAILED_PRECONDITION),
    ],
)
def test_joins_are_checked(target: ModelRunner, request_: Join, status: Status) -> None:
    world, link = InProcess(target), Listener()
    world.verifier.command(OPENING, world.recorder)
    world.verifier.update(DraftUpdate(joins=(request_,)), link)
    assert [found for found, _ in link.refusals] == [status]


def test_a_join_before_its_session_waits(target: ModelRunner) -> None:
    world, link = InProcess(target), Listener()
    world.verifier.update(DraftUpdate(joins=(join(), join("never"))), link)
    assert link.heard == []
    world.verifier.command(OPENING, world.recorder)
    assert [j.session_id for j in link.heard[0].joined] == ["s"]
    for _ in range(int(EARLY_JOIN_SECONDS * 2000)):
        world.verifier.step()
    assert [status for status, _ in link.refusals] == [Status.NOT_FOUND]


def test_joins_without_sessions_do_not_pile_up(target: ModelRunner) -> None:
    world, link = InProcess(target), Listener()
    for start in range(0, MAX_ENTRIES + 3, 500):
        joins = tuple(join(f"ghost-{i}") for i in range(start, min(start + 500, MAX_ENTRIES + 3)))
        world.verifier.update(DraftUpdate(joins=joins), link)
    assert [status for status, _ in link.refusals] == [Status.RESOURCE_EXHAUSTED] * 3


def test_a_join_with_other_tokens_gets_the_verifiers(target: ModelRunner) -> None:
    world, link = InProcess(target), Listener()
    world.verifier.command(replace(OPENING, token_ids=(1, 2, 3, 9), prompt_length=3), world.recorder)
    world.verifier.update(DraftUpdate(joins=(join(have_length=4, prefix_hash=prefix_hash((1, 2, 3, 8))),)), link)
    (joined,) = link.heard[0].joined
    assert (joined.position, joined.token_ids) == (3, (9,))


def test_a_revoked_drafter_is_out(target: ModelRunner) -> None:
    world, link = InProcess(target), Listener()
    world.verifier.command(OPENING, world.recorder)
    world.verifier.update(DraftUpdate(joins=(join(),)), link)
    world.verifier.command(RevokeDrafter("s", "d", "too slow"), world.recorder)
    world.verifier.update(DraftUpdate(joins=(join(),)), link)
    assert [status for status, _ in link.refusals] == [Status.PERMISSION_DENIED] * 2
    world.verifier.update(DraftUpdate(nodes=(nodes([4], [0]),)), link)
    world.run()
    assert world.recorder.finished["s"] is FinishReason.LENGTH


def test_abort_frees_everything_within_a_step(target: ModelRunner) -> None:
    world = InProcess(target)
    world.open("s", [1, 2, 3], SamplingParameters(max_tokens=400))
    for _ in range(5):
        world.verifier.step()
    assert target.cache.pool.free < target.cache.pool.num_blocks
    world.verifier.command(AbortSession("s", 2), world.recorder)  # another epoch's abort is not ours
    assert world.verifier.busy
    world.verifier.command(AbortSession("s", 1), world.recorder)
    world.verifier.step()
    assert target.cache.pool.free == target.cache.pool.num_blocks
    assert not world.verifier.busy


def test_an_abort_while_a_step_is_under_way(target_path: Path) -> None:
    """The only session goes, its drafter still attached, while its rows are being computed."""
    target = load(target_path)
    drafter = make_drafter(ModelDrafter(load(target_path)), 64)
    world, forward = InProcess(target, [drafter]), target.forward
    world.open("s", [1, 2, 3], SamplingParameters(max_tokens=400))
    for _ in range(3):
        drafter.grow()
        world.verifier.step()

    def abort(groups: Sequence[Rows]) -> list[Logits]:
        world.verifier.command(AbortSession("s", 1), world.recorder)
        return forward(groups)

    target.forward = abort  # type: ignore[method-assign]
    world.run()
    assert not world.verifier.busy
    assert drafter.attached_sessions == 0
    assert target.cache.pool.free == target.cache.pool.num_blocks


def test_a_lost_gateway_takes_its_sessions_along(target: ModelRunner, target_path: Path) -> None:
    drafter = make_drafter(ModelDrafter(load(target_path)), 64)
    world = InProcess(target, [drafter])
    world.open("s", [1, 2, 3], SamplingParameters(max_tokens=400))
    for _ in range(5):
        drafter.grow()
        world.verifier.step()
    assert drafter.attached_sessions == 1
    world.verifier.gateway_lost(world.recorder)
    world.verifier.step()
    drafter.grow()
    assert (drafter.attached_sessions, world.verifier.busy) == (0, False)


def test_stop_tokens_stop_and_are_the_last(target: ModelRunner) -> None:
    plain = InProcess(target)
    plain.open("s", [1, 2, 3], SamplingParameters(max_tokens=60, temperature=0.8), seed=1)
    plain.run()
    text = plain.recorder.tokens["s"]
    stop = text[20]
    stopped = InProcess(target)
    sampling = SamplingParameters(max_tokens=60, temperature=0.8, stop_token_ids=(stop,))
    stopped.open("s", [1, 2, 3], sampling, SpeculationParameters(mode=Mode.OFF), seed=1)
    stopped.run()
    assert stopped.recorder.tokens["s"] == text[: text.index(stop) + 1]
    assert stopped.recorder.finished["s"] is FinishReason.STOP


def test_what_is_no_news_is_told_apart(target: ModelRunner) -> None:
    """So that a drafter that floods can be read less often: duplicates, the stale, the unknown."""
    world, drafter = InProcess(target), Listener()
    world.verifier.command(OPENING, world.recorder)
    assert world.verifier.update(DraftUpdate(joins=(join(),)), drafter)
    fresh = DraftUpdate(nodes=(nodes([4, 5], [0, 1]),))
    assert world.verifier.update(fresh, drafter)
    assert world.verifier.step(), "prompt"
    world.verifier.step()
    for dull in (fresh, DraftUpdate(), DraftUpdate(nodes=(nodes([4], [0], session_id="nobody"),))):
        assert not world.verifier.update(dull, drafter)


async def test_a_drafter_that_floods_is_kept_waiting_and_nobody_else(monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []
    now = 0.0

    async def sleep(seconds: float) -> None:
        nonlocal now
        waits.append(seconds)
        now += seconds

    monkeypatch.setattr("verifier_service.servicer.asyncio.sleep", sleep)
    flooding, working = Backpressure(lambda: now), Backpressure(lambda: now)
    for _ in range(PATIENCE):
        await flooding.heard(0, news=False)
        await working.heard(0, news=True)
    assert waits == []
    for _ in range(500):
        await flooding.heard(0, news=False)
    assert now == pytest.approx(500 / PATIENCE_PER_SECOND)
    waits.clear()
    now += PATIENCE / PATIENCE_PER_SECOND
    await flooding.heard(0, news=False)
    assert waits == [], "time heals"


def test_joining_and_leaving_again_and_again_is_no_news(target: ModelRunner) -> None:
    world, drafter = InProcess(target), Listener()
    world.verifier.command(OPENING, world.recorder)
    joining, leaving = DraftUpdate(joins=(join(),)), DraftUpdate(leaves=(Leave("s"),))
    assert [world.verifier.update(joining, drafter) for _ in range(3)] == [True, False, False]
    assert [world.verifier.update(leaving, drafter) for _ in range(3)] == [True, False, False]
    assert not world.verifier.update(joining, drafter), "it was here before"


def test_sessions_of_no_scope_share_no_prefix(target_path: Path) -> None:
    """Not even with each other; others do."""
    world, prompt = InProcess(load(target_path)), list(range(60))
    cached = {}
    for scope in ("", NO_SCOPE):
        for index in range(2):
            world.open(f"{scope}{index}", prompt, SAMPLING, SpeculationParameters(cache_scope=scope))
            world.run()
            usage = world.recorder.last[f"{scope}{index}"].usage
            assert usage is not None
            cached[scope, index] = usage.cached_tokens
    assert cached["", 1] > 0
    assert cached[NO_SCOPE, 0] == cached[NO_SCOPE, 1] == 0
