"""The cache's laws: blocks balance, and kept rows are worth what a fresh forward gives."""

from __future__ import annotations

import zlib
from dataclasses import dataclass, field

import numpy as np
import pytest
import torch
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from paceline.engine.batch import Rows
from paceline.engine.blocks import BlockPool, PrefixKeys
from paceline.engine.cache import ROOT, KVCache, Sequence
from paceline.engine.config import ModelConfig
from paceline.engine.runner import ModelRunner
from paceline.errors import OutOfBlocks
from tests.checkpoints import write_checkpoint
from tests.engine.opening import opened

BLOCKS, SIZE = 12, 4
TINY = ModelConfig(
    family="llama", vocabulary_size=8, hidden_size=1, layers=1, heads=1, kv_heads=1, head_dim=1, norm_eps=1e-5,
    max_context=96, tied=True, stop_token_ids=(), inverse_frequencies=torch.ones(1), rope_factor=1.0,
)  # fmt: skip


TEXTS = ([0] * 24, [0] * 4 + [1] * 20, [1] * 24)
"""Sessions begin with a prefix of one of these, so that most of them meet blocks of others."""


def worth(path: list[int]) -> float:
    """What stands for the K/V of a path's last token: a number that depends on all of the path."""
    return float(zlib.crc32(bytes(path)) >> 8)


@dataclass
class Session:
    """A model of one sequence: its committed text and the paths of its tail rows."""

    sequence: Sequence
    scope: str
    text: list[int]
    computed: int
    paths: list[list[int]] = field(default_factory=list)


class CacheLaws(RuleBasedStateMachine):
    """Sessions open on cached prefixes, grow, commit, roll back, are preempted, cut back and closed, in any order.

    Always: free + held = total; nobody holds a block twice; and what lies in a session's rows is worth its own text.
    """

    def __init__(self) -> None:
        super().__init__()
        self.cache = KVCache(TINY, BLOCKS, torch.device("cpu"), torch.float32)
        self.cache.pool = BlockPool(BLOCKS, SIZE)
        self.rows = self.cache.data[0, 0, :, 0, 0].numpy()
        self.sessions: list[Session] = []

    def write(self, session: Session, first: int, paths: list[list[int]]) -> None:
        base = session.sequence.num_computed_tokens
        for row, path in enumerate(paths, first):
            self.cache.data[0, 0, int(session.sequence.slots[base + row])] = worth(path)

    @rule(base=st.sampled_from(TEXTS), length=st.integers(1, 24), scope=st.sampled_from(["", "", "private"]))
    def open(self, base: list[int], length: int, scope: str) -> None:
        text = base[:length]
        sequence = Sequence(self.cache, 8, PrefixKeys(scope, SIZE))
        found = sequence.adopt(text)
        assert found < len(text)
        assert found % SIZE == 0
        self.sessions.append(Session(sequence, scope, text, found))

    @precondition(lambda self: self.sessions)
    @rule(data=st.data(), rows=st.sampled_from([3, 8, 24]))
    def prefill(self, data: st.DataObject, rows: int) -> None:
        session = data.draw(st.sampled_from(self.sessions))
        chunk = session.text[session.computed : session.computed + rows]
        fits = session.sequence.stretch(len(chunk)) if not session.paths else 0
        chunk = chunk[:fits]
        if chunk:
            session.sequence.append_chain(len(chunk))
            start = session.computed
            self.write(session, 0, [session.text[: start + row + 1] for row in range(len(chunk))])
            session.sequence.keep(range(len(chunk)), commit=len(chunk))
            session.computed += len(chunk)
            session.sequence.share(session.text)

    @precondition(lambda self: self.sessions)
    @rule(data=st.data(), tokens=st.lists(st.integers(0, 3), min_size=1, max_size=3, unique=True))
    def grow(self, data: st.DataObject, tokens: list[int]) -> None:
        session = data.draw(st.sampled_from(self.sessions))
        if session.computed < len(session.text):
            return
        parent = data.draw(st.integers(ROOT, len(session.paths) - 1))
        above = session.text if parent == ROOT else session.paths[parent]
        rows = [token for token in tokens if [*above, token] not in session.paths]
        room = min(session.sequence.stretch(len(rows)), session.sequence.room)
        rows = rows[:room]
        if rows:
            first = session.sequence.append([parent] * len(rows))
            fresh = [[*above, token] for token in rows]
            self.write(session, first, fresh)
            session.paths += fresh

    @precondition(lambda self: self.sessions)
    @rule(data=st.data(), survivors=st.booleans())
    def commit(self, data: st.DataObject, *, survivors: bool) -> None:
        session = data.draw(st.sampled_from(self.sessions))
        if not session.paths:
            return
        chosen = data.draw(st.sampled_from(session.paths))
        above = [chosen[: n + 1] for n in range(len(session.text), len(chosen))]
        rows = [session.paths.index(path) for path in above]
        below = [path for path in session.paths if len(path) > len(chosen) and path[: len(chosen)] == chosen]
        kept = below if survivors else []
        session.sequence.keep([*rows, *(session.paths.index(path) for path in kept)], commit=len(rows))
        session.paths = kept
        session.text, session.computed = chosen, len(chosen)
        session.sequence.share(session.text)

    @precondition(lambda self: self.sessions)
    @rule(data=st.data())
    def roll_back(self, data: st.DataObject) -> None:
        session = data.draw(st.sampled_from(self.sessions))
        session.sequence.keep((), commit=0)
        session.paths = []

    @precondition(lambda self: self.sessions)
    @rule(data=st.data())
    def preempt(self, data: st.DataObject) -> None:
        session = data.draw(st.sampled_from(self.sessions))
        session.sequence.close()
        session.sequence = Sequence(self.cache, 8, PrefixKeys(session.scope, SIZE))
        session.computed, session.paths = session.sequence.adopt(session.text), []

    @precondition(lambda self: self.sessions)
    @rule(data=st.data(), token=st.integers(0, 1))
    def cut_back(self, data: st.DataObject, token: int) -> None:
        """A drafter hears that the text went another way."""
        session = data.draw(st.sampled_from(self.sessions))
        length = data.draw(st.integers(0, len(session.text) - 1))
        session.sequence.truncate(length)
        session.text = [*session.text[:length], token]
        session.computed, session.paths = session.sequence.num_computed_tokens, []
        assert session.computed <= length

    @precondition(lambda self: self.sessions)
    @rule(data=st.data())
    def close(self, data: st.DataObject) -> None:
        session = data.draw(st.sampled_from(self.sessions))
        session.sequence.close()
        session.sequence.close()
        self.sessions.remove(session)

    @invariant()
    def blocks_balance(self) -> None:
        held = [session.sequence.block_table for session in self.sessions]
        assert all(len(set(blocks)) == len(blocks) for blocks in held)
        assert self.cache.pool.free + len(set().union(*held)) == BLOCKS

    @invariant()
    def rows_are_worth_their_text(self) -> None:
        for session in self.sessions:
            sequence = session.sequence
            assert sequence.num_computed_tokens == session.computed
            paths = [session.text[: n + 1] for n in range(session.computed)] + session.paths
            assert self.rows[sequence.slots[: len(paths)]].tolist() == [worth(path) for path in paths]


TestCacheLaws = CacheLaws.TestCase
TestCacheLaws.settings = settings(max_examples=150, stateful_step_count=50, deadline=None)


def test_a_text_that_went_another_way_is_not_found_under_its_old_name() -> None:
    cache = KVCache(TINY, 4, torch.device("cpu"), torch.float32)
    first = Sequence(cache, 8)
    first.adopt([1] * 17)  # names the first block before it is computed
    first.truncate(8)
    first.reserve(16)
    first.append_chain(16)
    first.keep(range(16), commit=16)
    first.share([1] * 8 + [2] * 8)
    assert Sequence(cache, 8).adopt([1] * 17) == 0
    assert Sequence(cache, 8).adopt([1] * 8 + [2] * 9) == 16


@pytest.fixture(scope="module")
def runner(tmp_path_factory: pytest.TempPathFactory) -> ModelRunner:
    return ModelRunner.load(write_checkpoint(tmp_path_factory.mktemp("cache")), cache_tokens=2048)


@pytest.mark.parametrize("seed", range(4))
def test_ten_growths_with_random_re_roots_equal_a_fresh_forward(runner: ModelRunner, seed: int) -> None:
    """A drafter's life: grow below cached ancestors, re-root onto a branch, keep its survivors, grow on."""
    rng = np.random.default_rng(seed)
    text = rng.integers(0, 64, 12).tolist()
    sequence = opened(runner, 256, 64)
    runner.prefill(sequence, text)
    paths: list[list[int]] = []  # tokens of each tail row, from the committed text down
    for _ in range(10):
        parents, tokens = [], []
        for _ in range(int(rng.integers(1, 5))):
            parent, token = int(rng.integers(-1, len(paths))), int(rng.integers(0, 64))
            path = [*(paths[parent] if parent != ROOT else []), token]
            if path not in paths:  # siblings are unique
                parents.append(parent)
                tokens.append(token)
                paths.append(path)
        if not tokens:
            continue
        (logits,) = runner.forward([Rows(sequence, tokens, parents)])
        for path, row in zip(paths[-len(tokens) :], logits, strict=True):
            np.testing.assert_allclose(row, fresh(runner, text + path), atol=1e-5, rtol=1e-4)
        if rng.random() < 0.6:
            text, paths = re_root(sequence, text, paths, rng)
    sequence.close()
    assert runner.cache.pool.free == runner.cache.pool.num_blocks


def fresh(runner: ModelRunner, tokens: list[int]) -> np.ndarray:
    sequence = opened(runner, 256, 8)
    (logits,) = runner.forward([Rows(sequence, tokens)])
    sequence.close()
    return np.asarray(logits[0])


def re_root(
    sequence: Sequence, text: list[int], paths: list[list[int]], rng: np.random.Generator
) -> tuple[list[int], list[list[int]]]:
    """Commits a random row's path and keeps what hangs below it."""
    chosen = paths[int(rng.integers(0, len(paths)))]
    on_path = [paths.index(chosen[: depth + 1]) for depth in range(len(chosen))]
    below = [i for i, path in enumerate(paths) if len(path) > len(chosen) and path[: len(chosen)] == chosen]
    sequence.keep([*on_path, *below], commit=len(on_path))
    return text + chosen, [paths[i][len(chosen) :] for i in below]


def test_room_is_checked(runner: ModelRunner) -> None:
    sequence = opened(runner, 32, 4)
    with pytest.raises(OutOfBlocks, match="5 rows do not fit"):
        sequence.append([ROOT] * 5)
    with pytest.raises(OutOfBlocks, match="33 prefill rows"):
        sequence.append_chain(33)
    sequence.close()
    sequence.close()
    assert runner.cache.pool.free == runner.cache.pool.num_blocks


settings.register_profile("default", deadline=None)
settings.load_profile("default")
