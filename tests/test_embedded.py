"""The committed checkpoints are what their README says."""

from __future__ import annotations

import torch
from transformers import AutoModelForCausalLM

from paceline.checkpoint import check_reference, resolve, resolve_tokenizer
from paceline.embedded import DRAFT, TARGET


def test_the_embedded_pair_is_what_its_readme_says() -> None:
    """Sizes, dtype and context of the committed checkpoints."""
    total = 0
    for name, low, high in (("target", 3.0e6, 9.0e6), ("draft", 0.5e6, 1.5e6)):
        model = AutoModelForCausalLM.from_pretrained(TARGET.parent / name, dtype="auto")
        assert low <= sum(p.numel() for p in model.parameters()) <= high
        assert (model.dtype, model.config.max_position_embeddings) == (torch.bfloat16, 4096)
        total += sum(file.stat().st_size for file in (TARGET.parent / name).iterdir())
    assert total <= 25e6


def test_the_pair_has_names_that_mean_the_same_everywhere() -> None:
    for name, directory in (("embedded:target", TARGET), ("embedded:draft", DRAFT)):
        check_reference("model", name)
        assert resolve(name) == resolve_tokenizer(name) == directory
