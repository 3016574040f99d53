"""What a drafter reads of a long text, and that reading less changes nothing but its guesses."""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Sequence
from pathlib import Path
from typing import cast

import bm25s
import pytest
from hypothesis import given
from hypothesis import strategies as st

from drafter_service.config import DrafterConfig
from drafter_service.drafters import model
from drafter_service.drafters.model import ModelDrafter
from drafter_service.drafters.rag import (
    CHUNK,
    HEAD,
    LENGTH_WEIGHT,
    QUERY,
    SATURATION,
    STRIDE,
    RagDrafter,
    excerpt,
    rank_passages,
)
from drafter_service.loading import load_drafter
from drafter_service.session import DraftSession
from paceline.cluster.topology import emulated, parse_topology
from paceline.engine.runner import ModelRunner
from paceline.speculation import growth
from paceline.speculation.fields import FieldError
from paceline.speculation.noise import NoiseCache
from paceline.speculation.policy import Mode, SpeculationParameters
from paceline.speculation.sampling import SamplingParameters
from paceline.speculation.tree import Node
from tests.checkpoints import write_checkpoint
from tests.compare import float64_logits
from tests.drafter_service.growing import commit, session_of
from tests.in_process import InProcess, load, make_drafter

LIMIT = 96


def text(length: int, seed: int = 0, vocabulary: int = 64) -> list[int]:
    return random.Random(seed).choices(range(vocabulary), k=length)


def opened(kind: ModelDrafter, token_ids: Sequence[int], name: str = "s", width: int = 4) -> DraftSession:
    session = session_of(token_ids, name, width=width)
    session.noise = NoiseCache(1, 64)
    kind.open(session)
    return session


def grow(kind: ModelDrafter, session: DraftSession, times: int) -> None:
    for _ in range(times):
        if kind.growable(session):
            kind.grow([session])


def path(node: Node) -> tuple[int, ...]:
    return () if node.parent is None else (*path(node.parent), node.token_id)


def columns(session: DraftSession) -> list[tuple[tuple[int, ...], float]]:
    """Every node by its path, with its estimate."""
    return sorted((path(node), node.log_score) for node in session.tree.live())


def in_order(part: Sequence[int], whole: Sequence[int]) -> bool:
    """Whether ``part`` comes from leaving tokens of ``whole`` out."""
    rest = iter(whole)
    return all(token in rest for token in part)


# -- the excerpt -------------------------------------------------------------------------------------------------------


@given(
    tokens=st.lists(st.integers(0, 20), min_size=1, max_size=600), limit=st.integers(64, 256), retrieval=st.booleans()
)
def test_an_excerpt_is_bounded_and_ends_as_the_text_does(tokens: list[int], limit: int, *, retrieval: bool) -> None:
    cut = excerpt(tokens, limit, retrieval=retrieval)
    if len(tokens) <= limit:
        assert cut == tokens
        return
    assert limit // 4 <= len(cut) <= limit * 3 // 4
    assert cut[:HEAD] == tokens[:HEAD]
    assert cut[-(limit // 4) :] == tokens[-(limit // 4) :]
    assert in_order(cut, tokens)


@pytest.mark.parametrize("place", [40, 700, 1500, 2400])
def test_passages_hold_what_the_text_is_about(place: int) -> None:
    """A key and what belongs to it stand somewhere in a long random text; its end names the key alone."""
    key, needle = [5001, 5002, 5003], [6001, 6002, 6003, 6004]
    tokens = text(3000, vocabulary=5000)
    tokens[place : place + 7] = key + needle
    tokens += key
    cut = excerpt(tokens, 512)
    assert any(cut[i : i + 7] == key + needle for i in range(len(cut)))
    alone = excerpt(tokens, 512, retrieval=False)
    assert 6001 not in alone
    assert alone == tokens[:HEAD] + tokens[-(384 - HEAD) :]


@pytest.mark.parametrize(("length", "words"), [(120, 20), (600, 50), (3000, 4000)])
def test_passages_are_ranked_as_bm25_has_it(length: int, words: int) -> None:
    """Another implementation's scores of the passages, best first, never rise; all that score are there."""
    tokens, end = text(length, vocabulary=words), length - 60
    passages = [(start, min(start + CHUNK, end)) for start in range(HEAD, end, STRIDE)]
    index = bm25s.BM25(k1=SATURATION, b=LENGTH_WEIGHT)
    index.index([[str(token) for token in tokens[start:stop]] for start, stop in passages], show_progress=False)
    scores = dict(zip(passages, index.get_scores([str(token) for token in set(tokens[-QUERY:])]), strict=True))
    found = rank_passages(tokens, end)
    assert sorted(found) == [passage for passage in passages if scores[passage] > 0]
    assert all(scores[a] >= scores[b] - 1e-4 for a, b in itertools.pairwise(found))


def test_text_that_has_left_the_window_is_found_again() -> None:
    needle = [90_001, 90_002, 90_003]
    tokens = [*text(600, vocabulary=90_000), *needle, *text(400, seed=1, vocabulary=90_000), *needle[:2]]
    assert [token for token in excerpt(tokens, 256) if token > 90_000] == needle + needle[:2]


# -- the drafter -------------------------------------------------------------------------------------------------------


def test_with_room_for_the_whole_text_it_is_the_model_drafter(target_path: Path) -> None:
    drafted = []
    for kind in (ModelDrafter(load(target_path)), RagDrafter(load(target_path), 512)):
        session, seen = opened(kind, text(200)), []
        for step in range(6):
            grow(kind, session, 4)
            seen.append(columns(session))
            best = next(session.tree.best_first())[1].token_id if step % 2 else 63
            commit(kind, session, [best, 7])
        grow(kind, session, 4)
        session.replace(150, (1, 2, 3))
        kind.rewind(session, 150)
        grow(kind, session, 4)
        drafted.append([*seen, columns(session)])
        assert all(drafted[-1])
    assert drafted[0] == drafted[1]


def test_the_context_grows_with_the_text_until_it_is_cut_again(target_path: Path) -> None:
    kind = RagDrafter(load(target_path), LIMIT)
    session, lengths = opened(kind, text(300)), list[int]()
    for token in text(200, seed=1):
        grow(kind, session, 2)
        commit(kind, session, [token])
        context = kind.context(session)
        assert len(context) <= LIMIT
        assert context[-LIMIT // 4 :] == session.tokens[-LIMIT // 4 :]
        lengths.append(len(context))
    falls = sum(after < before for before, after in itertools.pairwise(lengths))
    assert 200 * 4 // LIMIT - 2 <= falls <= 200 * 4 // LIMIT


def test_after_a_cut_what_is_left_of_the_tree_is_read_anew(target_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Parents before children: each guess is the model's own on the new context and the path to the node."""
    for module in (model, growth):
        monkeypatch.setattr(module, "FLOOR", -math.inf)
    kind = RagDrafter(load(target_path), LIMIT)
    session = opened(kind, text(300), width=1)
    while True:
        grow(kind, session, 12)
        before = len(kind.context(session))
        commit(kind, session, [next(session.tree.best_first())[1].token_id])
        if len(kind.context(session)) < before:
            break
    survivors = list(session.tree.live())
    assert len(survivors) > 5
    grow(kind, session, 6)
    expanded = [node for node in survivors if node.row >= 0]
    assert len(expanded) == 5, "one a growth, after one for the context"
    guesses = kind._cached["s"].guesses
    for node in expanded:
        tokens = [*kind.context(session), *path(node)]
        scores = float64_logits(target_path, tokens)[-1] / 0.8 + session.noise.vector(node.position + 1)
        assert guesses[node].token_ids == [int(scores.argmax())]


def test_positions_and_noise_are_those_of_the_text(target_path: Path) -> None:
    kind = RagDrafter(load(target_path), LIMIT)
    session = opened(kind, text(300))
    asked: list[int] = []
    rows = session.noise.rows
    session.noise.rows = lambda positions: asked.extend(positions) or rows(positions)  # type: ignore[func-returns-value,method-assign]
    grow(kind, session, 4)
    assert min(asked) == 300
    assert {node.position for node in session.tree.root.children.values()} == {300}


def test_no_block_stays_behind(target_path: Path) -> None:
    runner, chance = load(target_path), random.Random(3)
    kind, pool = RagDrafter(runner, LIMIT), runner.cache.pool
    sessions = [opened(kind, text(200 + 90 * index), f"s{index}") for index in range(3)]
    for _ in range(150):
        session = chance.choice(sessions)
        grow(kind, session, chance.randrange(3))
        best = next(session.tree.best_first(), None)
        if chance.random() < 0.1:
            length = chance.randrange(1, len(session.tokens))
            session.replace(length, (1,))
            kind.rewind(session, length)
        elif best and chance.random() < 0.6:
            commit(kind, session, [best[1].token_id])
        else:
            commit(kind, session, text(chance.randrange(1, 40), seed=chance.randrange(100)))
    assert pool.free < pool.num_blocks
    for session in sessions:
        kind.close(session)
    assert pool.free == pool.num_blocks


# -- whole sessions ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def long_target(tmp_path_factory: pytest.TempPathFactory) -> ModelRunner:
    return load(write_checkpoint(tmp_path_factory.mktemp("long"), max_position_embeddings=2048))


@pytest.mark.parametrize("mode", [Mode.OVERLAPPED, Mode.LOCKSTEP])
@pytest.mark.parametrize("temperature", [0.0, 0.8])
def test_the_text_is_the_targets_own(
    long_target: ModelRunner, target_path: Path, mode: Mode, temperature: float
) -> None:
    """The target has the weights of the draft and reads all of a prompt longer than the draft's whole context."""
    sampling = SamplingParameters(max_tokens=80, temperature=temperature)
    runner = load(target_path)
    told = []
    for drafters in ([], [make_drafter(RagDrafter(runner, 128), 64)]):
        world = InProcess(long_target, drafters)
        world.open("s", text(900), sampling, SpeculationParameters(mode=mode), seed=5)
        world.run()
        told.append(world.recorder.tokens["s"])
    assert told[0] == told[1]
    overlap = world.recorder.last["s"].overlap
    assert overlap is not None
    assert overlap.accepted_nodes > 0
    for pool in (runner.cache.pool, long_target.cache.pool):
        assert pool.free == pool.num_blocks


# -- settings ----------------------------------------------------------------------------------------------------------


def test_a_context_without_room_is_refused(target_path: Path, tmp_path: Path) -> None:
    with pytest.raises(FieldError, match="draft_context = 32"):
        RagDrafter(load(target_path), 32)
    with pytest.raises(FieldError, match="draft_context = 36"):
        RagDrafter(load(write_checkpoint(tmp_path, max_position_embeddings=100)))
    with pytest.raises(FieldError, match="draft_context = 32"):
        DrafterConfig("rag", ("here:1",), model=str(target_path), draft_context=32)
    with pytest.raises(FieldError, match="model"):
        DrafterConfig("rag", ("here:1",))


def test_a_topology_says_how_much_it_reads(target_path: Path) -> None:
    """The text may be far longer than the draft model's own context."""
    pool = {"kind": "rag", "model": str(target_path), "draft_context": 128}
    topology = parse_topology(
        {
            "models": [{"id": "m", "target": "T", "verifiers": "v", "drafters": ["d"]}],
            "verifiers": {"v": {}},
            "drafters": {"d": pool},
        }
    )
    assert topology.drafters["d"].draft_context == 128
    assert emulated(topology, "draft=4ms", "").drafters["d"].emulate_step_time == "4ms"
    drafter = load_drafter(DrafterConfig("rag", ("here:1",), model=str(target_path), draft_context=128)).drafter
    assert drafter.max_context > 100_000
    session = opened(cast("ModelDrafter", drafter.kind), text(900))
    assert len(cast("ModelDrafter", drafter.kind).context(session)) == 96
