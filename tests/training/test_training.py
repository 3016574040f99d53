"""Training: the corpus is split and edited as said, and a run that stops goes on where it was."""

from __future__ import annotations

import ast
import random
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from paceline.training.corpus import Corpus, Document, edit_pairs, encode, standard_library
from paceline.training.loop import Trainer, learning_rate_scale
from paceline.training.tokenizer import SPECIAL_TOKENS, VOCABULARY_SIZE, save_tokenizer, train_tokenizer

FUNCTION = """
def area(width, height):
    result = width * height
    if result < 0:
        raise ValueError(result)
    return result
"""


def test_two_percent_of_the_files_are_held_out_by_name() -> None:
    documents = standard_library()
    held_out = [document for document in documents if document.held_out]
    assert len(documents) > 500
    assert 0.01 < len(held_out) / len(documents) < 0.03
    assert Document("os.py", "").held_out == Document("os.py", "other text").held_out


def test_edit_pairs_rename_one_identifier_everywhere() -> None:
    (pair,) = edit_pairs(FUNCTION, random.Random(0))
    before, _, after = pair.partition("# The same function, with ")
    note, _, after = after.partition(":\n\n")
    old, new = note.split("`")[1], note.split("`")[3]
    assert old == "result"
    assert before.strip().replace(old, new) == after.strip()
    ast.parse(after)


def test_text_that_is_not_python_has_no_edit_pairs() -> None:
    assert list(edit_pairs("def broken(:", random.Random(0))) == []


def test_tokenizer_writes_every_byte_and_loads_in_transformers(tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    tokenizer = train_tokenizer([FUNCTION] * 10)
    save_tokenizer(tokenizer, tmp_path)
    loaded = AutoTokenizer.from_pretrained(tmp_path)
    for text in (FUNCTION, "naïve 😀\x00", " \t\r\n"):
        assert loaded.decode(loaded(text).input_ids) == text
        assert tokenizer.encode(text).ids == loaded(text).input_ids
    assert [tokenizer.token_to_id(token) for token in SPECIAL_TOKENS] == [0, 1, 2]
    assert tokenizer.get_vocab_size() <= VOCABULARY_SIZE


def test_one_window_in_five_is_an_edit_pair() -> None:
    corpus = Corpus(np.zeros(1000, np.uint16), np.ones(1000, np.uint16), np.zeros(1, np.uint16))
    batch = corpus.batch(np.random.default_rng(0), rows=2000, length=10)
    assert batch.shape == (2000, 10)
    assert 0.17 < batch.mean() < 0.23


def test_documents_end_with_the_end_token() -> None:
    tokenizer = train_tokenizer([FUNCTION])
    tokens = encode(tokenizer, ["a", "b"])
    assert (tokens == 0).sum() == 2
    assert tokens[-1] == 0


def test_learning_rate_warms_up_holds_and_falls() -> None:
    scales = [learning_rate_scale(fraction) for fraction in (0.0, 0.02, 0.3, 0.7, 1.0)]
    assert scales == pytest.approx([0.1, 1.0, 1.0, 0.5, 0.02])


def test_a_run_goes_on_where_it_stopped(tmp_path: Path) -> None:
    torch.manual_seed(0)
    data = torch.randn(64, 8)

    def trainer() -> tuple[nn.Module, Trainer]:
        model = nn.Sequential(nn.Linear(8, 8, bias=False), nn.LayerNorm(8))
        return model, Trainer(model, matrix_lr=1e-2, other_lr=1e-2, checkpoint=tmp_path / "model.pt")

    def loss_of(model: nn.Module) -> float:
        return float((model(data) - data).square().mean().detach())

    model, first = trainer()
    before = loss_of(model)
    done = first.run(lambda rng, fraction: ((model(data) - data).square().mean(), 64), budget_seconds=0.2)
    model, second = trainer()
    assert (second.progress.steps, second.progress.tokens) == (done.steps, 64 * done.steps)
    assert loss_of(model) < 0.8 * before
    assert second.run(lambda rng, fraction: (model(data).sum(), 1), budget_seconds=0.2).steps == done.steps
