"""Deterministic numerics: a row has the same bits in every batch, chunk, tree and cache layout."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from paceline.engine.batch import Rows
from paceline.engine.cache import ROOT
from paceline.engine.runner import ModelRunner, Numerics
from paceline.engine.tiles import agreeing_sizes, tiles
from tests.checkpoints import FAMILIES, write_checkpoint
from tests.engine.opening import opened

PROMPT = np.random.default_rng(0).integers(0, 64, 90).tolist()
SHAPES: dict[str, dict[str, Any]] = {
    "usual": {},
    "odd": {"hidden_size": 36, "intermediate_size": 70, "num_attention_heads": 3, "num_key_value_heads": 1},
    "wide": {"hidden_size": 96, "intermediate_size": 1000, "head_dim": 24},
}


def deterministic(path: Path) -> ModelRunner:
    return ModelRunner.load(path, cache_tokens=4096, numerics=Numerics.DETERMINISTIC)


def alone(runner: ModelRunner, tokens: list[int]) -> np.ndarray:
    """Logits after the last token, each token computed in a forward of its own."""
    sequence = opened(runner, 256, 8)
    for token in tokens:
        (logits,) = runner.forward([Rows(sequence, [token], [ROOT])])
        sequence.keep([0], commit=1)
    sequence.close()
    return np.asarray(logits[0])


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("family", FAMILIES)
def test_tree_chunk_and_company_give_the_bits_of_one_row_at_a_time(family: str, shape: str, tmp_path: Path) -> None:
    runner = deterministic(write_checkpoint(tmp_path, family, **SHAPES[shape]))
    expected = alone(runner, PROMPT)
    whole = opened(runner, 256, 8)
    np.testing.assert_array_equal(runner.forward([Rows(whole, PROMPT)])[0][0], expected)

    holders = [opened(runner, 16, 8) for _ in range(20)]
    for holder in holders[::2]:
        holder.close()
    first, second, third = opened(runner, 256, 64), opened(runner, 256, 64), opened(runner, 256, 64)
    assert not first.contiguous
    runner.prefill(first, PROMPT[:85])
    runner.prefill(second, PROMPT[:40])
    wrong = [(token + 1) % 64 for token in PROMPT[85:]]
    nodes = [PROMPT[85], wrong[1], PROMPT[86], PROMPT[87], wrong[3], PROMPT[88], PROMPT[89], wrong[0]]
    parents = [ROOT, 0, 0, 2, 3, 3, 5, 6]
    tree, chunk, root = runner.forward(
        [Rows(first, nodes, parents), Rows(second, PROMPT[40:]), Rows(third, [PROMPT[0]], [ROOT])]
    )
    np.testing.assert_array_equal(tree[6], expected)
    np.testing.assert_array_equal(chunk[0], expected)
    np.testing.assert_array_equal(root[0], alone(runner, PROMPT[:1]))
    first.keep([0, 2, 3, 5], commit=4)
    np.testing.assert_array_equal(runner.forward([Rows(first, PROMPT[89:], [ROOT])])[0][0], expected)


def test_a_shared_prefix_gives_the_same_bits(target_path: Path) -> None:
    runner = deterministic(target_path)
    expected = alone(runner, PROMPT)
    first = runner.open(8, PROMPT)
    runner.prefill(first, PROMPT[:-1])
    first.share(PROMPT)
    second = runner.open(8, PROMPT)
    assert second.num_computed_tokens == 80
    second.reserve(128)
    np.testing.assert_array_equal(runner.forward([Rows(second, PROMPT[80:])])[0][0], expected)


def test_standard_numerics_do_not_promise_it(target_path: Path) -> None:
    """The guard of the tests above: what they demand is not what any forward gives."""
    runner = ModelRunner.load(target_path, cache_tokens=4096)
    whole = opened(runner, 256, 8)
    (logits,) = runner.forward([Rows(whole, PROMPT)])
    assert not np.array_equal(logits[0], alone(runner, PROMPT))
    np.testing.assert_allclose(logits[0], alone(runner, PROMPT), atol=2e-5, rtol=1e-4)


def test_sizes_that_change_a_row_are_not_used() -> None:
    def function(rows: torch.Tensor) -> torch.Tensor:
        return rows + (1e-3 if len(rows) in (4, 7, 32) else 0.0)

    def uneven(rows: torch.Tensor) -> torch.Tensor:
        last = torch.zeros_like(rows)
        last[-1] = 1e-3 if len(rows) == 16 else 0.0
        return rows + last

    rows = torch.randn(128, 3, generator=torch.Generator().manual_seed(0))
    sizes = agreeing_sizes(function, rows)
    assert not {4, 7, 32} & set(sizes)
    assert sizes[0] == 64
    assert sizes[-1] == 1
    assert 16 not in agreeing_sizes(uneven, rows)


def test_tiles_cover_every_row_once() -> None:
    for sizes in ((1,), (64, 16, 1), (24, 5, 3, 1)):
        for rows in range(1, 150):
            cut = list(tiles(rows, sizes))
            assert [row for tile in cut for row in range(rows)[tile]] == list(range(rows))
            assert all(tile.stop - tile.start in sizes for tile in cut)
