"""Checkpoints are read as Transformers reads them, without it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM, GenerationConfig

from paceline.checkpoint import check_reference, resolve
from paceline.engine.config import FAMILIES, ModelConfig
from paceline.errors import FieldError, UnsupportedModel
from tests.checkpoints import FAMILIES as CONFIGS
from tests.checkpoints import write_checkpoint

SHAPE = {"vocab_size": 64, "hidden_size": 256, "num_hidden_layers": 1, "num_attention_heads": 32}
LLAMA3 = {"factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 8192}
ROPES: dict[str, dict[str, Any]] = {
    "default": {"rope_theta": 10000.0},
    "another base": {"rope_theta": 1e6},
    "linear": {"rope_theta": 10000.0, "rope_scaling": {"type": "linear", "factor": 2.5}},
    "llama3": {"rope_theta": 5e5, "rope_scaling": {"rope_type": "llama3", **LLAMA3}},
    "yarn": {
        "rope_theta": 1e6,
        "rope_scaling": {"type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32768},
    },
    "yarn with its dials": {
        "rope_parameters": {
            "rope_type": "yarn", "rope_theta": 1e5, "factor": 40.0, "original_max_position_embeddings": 4096,
            "beta_fast": 16, "beta_slow": 2, "mscale": 1.0, "mscale_all_dim": 0.7, "truncate": False,
        }
    },
    "yarn with an attention factor": {
        "rope_parameters": {
            "rope_type": "yarn", "rope_theta": 1e5, "factor": 8.0, "original_max_position_embeddings": 4096,
            "attention_factor": 1.3,
        }
    },
}  # fmt: skip


def written(directory: Path, **content: object) -> Path:
    (directory / "config.json").write_text(json.dumps(content))
    return directory


@pytest.mark.parametrize("family", FAMILIES)
def test_what_a_file_leaves_out_means_what_the_family_means(family: str, tmp_path: Path) -> None:
    ours = ModelConfig.load(written(tmp_path, model_type=family, **SHAPE))
    theirs = AutoConfig.from_pretrained(tmp_path).to_dict()
    assert ours.kv_heads == theirs["num_key_value_heads"]
    assert ours.head_dim == (theirs.get("head_dim") or 8)
    assert ours.norm_eps == theirs["rms_norm_eps"]
    assert ours.tied == theirs["tie_word_embeddings"]
    window = theirs.get("sliding_window")
    assert ours.max_context == (window or theirs["max_position_embeddings"])


@pytest.mark.parametrize("rope", ROPES)
def test_rotary_frequencies_are_those_of_transformers(rope: str, tmp_path: Path) -> None:
    path = written(tmp_path, model_type="llama", max_position_embeddings=131072, **SHAPE, **ROPES[rope])
    ours = ModelConfig.load(path)
    model: Any = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(path))  # type: ignore[no-untyped-call]
    theirs = model.model.rotary_emb
    torch.testing.assert_close(ours.inverse_frequencies, theirs.inv_freq, rtol=1e-5, atol=0)
    assert ours.rope_factor == pytest.approx(theirs.attention_scaling)


def test_stop_tokens_are_those_that_generation_stops_at(tmp_path: Path) -> None:
    path = write_checkpoint(tmp_path, "llama", eos_token_id=7)
    assert ModelConfig.load(path).stop_token_ids == (7,)
    GenerationConfig(eos_token_id=[3, 9]).save_pretrained(path)  # type: ignore[no-untyped-call]
    assert ModelConfig.load(path).stop_token_ids == (3, 9)


def test_a_sliding_window_limits_the_context(tmp_path: Path) -> None:
    assert ModelConfig.load(write_checkpoint(tmp_path, "mistral", sliding_window=128)).max_context == 128
    assert ModelConfig.load(write_checkpoint(tmp_path, "qwen2", sliding_window=128)).max_context == 512


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ({"model_type": "mamba"}, "model_type = 'mamba'"),
        ({"model_type": "llama", **SHAPE, "hidden_act": "gelu"}, "hidden_act = 'gelu'"),
        ({"model_type": "llama", **SHAPE, "rope_scaling": {"type": "dynamic", "factor": 2.0}}, "rope_type = 'dynamic'"),
        ({"model_type": "llama", **SHAPE, "rope_scaling": {"type": "linear"}}, "the key 'factor' for linear"),
        ({"model_type": "llama", **SHAPE, "quantization_config": {"bits": 4}}, "quantization_config"),
        ({"model_type": "llama", "vocab_size": "many"}, "vocab_size = 'many'"),
    ],
)
def test_what_is_not_computed_is_refused_by_name(content: dict[str, Any], says: str, tmp_path: Path) -> None:
    with pytest.raises(UnsupportedModel) as refusal:
        ModelConfig.load(written(tmp_path, **content))
    assert says in str(refusal.value)


def test_a_broken_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(UnsupportedModel, match=r"config\.json"):
        ModelConfig.load(tmp_path)


def test_every_family_is_tested() -> None:
    assert set(CONFIGS) == set(FAMILIES)


def test_a_hub_id_is_found_in_the_hub_s_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    repository = tmp_path / "models--someone--tiny"
    snapshot = repository / "snapshots" / "0123abcd"
    snapshot.mkdir(parents=True)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("0123abcd")
    write_checkpoint(snapshot, "qwen3")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub._snapshot_download.constants.HF_HUB_CACHE", str(tmp_path))
    check_reference("target", "someone/tiny")
    assert ModelConfig.load(resolve("someone/tiny")).family == "qwen3"
    with pytest.raises(FieldError, match="someone/missing"):
        resolve("someone/missing")


@pytest.mark.parametrize("reference", ["nothing", "/no/such/place", "..", "a/b/c", ""])
def test_what_is_neither_a_directory_nor_a_hub_id_is_refused(reference: str) -> None:
    with pytest.raises(FieldError, match=r"config\.json"):
        check_reference("target", reference)
