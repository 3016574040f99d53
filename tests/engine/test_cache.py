"""The cache's laws: blocks balance, and kept rows are worth what a fresh forward gives."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from paceline.engine.batch import Rows
from paceline.engine.cache import ROOT, BlockPool, Sequence
from paceline.engine.runner import ModelRunner
from paceline.errors import OutOfBlocks
from tests.checkpoints import write_checkpoint


class BlocksBalance(RuleBasedStateMachine):
    """free + held = total, and no block is held twice, whatever is allocated and released."""

    def __init__(self) -> None:
        super().__init__()
        self.pool = BlockPool(20)
        self.held: list[list[int]] = []

    @rule(count=st.integers(1, 8))
    def allocate(self, count: int) -> None:
        if count > self.pool.free:
            with pytest.raises(OutOfBlocks):
                self.pool.allocate(count)
        else:
            self.held.append(self.pool.allocate(count))

    @precondition(lambda self: self.held)
    @rule(data=st.data())
    def release(self, data: st.DataObject) -> None:
        self.pool.release(self.held.pop(data.draw(st.integers(0, len(self.held) - 1))))

    @invariant()
    def balance(self) -> None:
        blocks = [block for blocks in self.held for block in blocks]
        assert len(blocks) == len(set(blocks))
        assert self.pool.free + len(blocks) == 20


TestBlocksBalance = BlocksBalance.TestCase


@pytest.fixture(scope="module")
def runner(tmp_path_factory: pytest.TempPathFactory) -> ModelRunner:
    return ModelRunner.load(write_checkpoint(tmp_path_factory.mktemp("cache")), cache_tokens=2048)


@pytest.mark.parametrize("seed", range(4))
def test_ten_growths_with_random_re_roots_equal_a_fresh_forward(runner: ModelRunner, seed: int) -> None:
    """A drafter's life: grow below cached ancestors, re-root onto a branch, keep its survivors, grow on."""
    rng = np.random.default_rng(seed)
    text = rng.integers(0, 64, 12).tolist()
    sequence = runner.open(256, 64)
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
    sequence = runner.open(256, 8)
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
    sequence = runner.open(32, 4)
    with pytest.raises(OutOfBlocks, match="5 rows do not fit"):
        sequence.append([ROOT] * 5)
    with pytest.raises(OutOfBlocks, match="33 prefill rows"):
        sequence.append_chain(33)
    sequence.close()
    sequence.close()
    assert runner.cache.pool.free == runner.cache.pool.num_blocks


settings.register_profile("default", deadline=None)
settings.load_profile("default")
