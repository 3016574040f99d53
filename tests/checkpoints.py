"""Tiny random checkpoints, written by the tests themselves."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, LlamaConfig, MistralConfig, Qwen2Config, Qwen3Config

FAMILIES: dict[str, Any] = {
    "llama": LlamaConfig,
    "qwen2": Qwen2Config,
    "qwen3": Qwen3Config,
    "mistral": MistralConfig,
}


def write_checkpoint(
    directory: Path, family: str = "llama", *, seed: int = 0, scale: float = 0.3, **overrides: object
) -> Path:
    """A random model of two layers; ``scale`` makes its distributions neither flat nor certain."""
    fields: dict[str, object] = {
        "vocab_size": 64,
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 8,
        "max_position_embeddings": 512,
        "bos_token_id": None,
        "eos_token_id": None,
        "pad_token_id": None,
        "sliding_window": None,
    }
    fields.update(overrides)
    torch.manual_seed(seed)
    model: Any = AutoModelForCausalLM.from_config(FAMILIES[family](**fields))  # type: ignore[no-untyped-call]
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "norm" not in name:
                parameter.normal_(0, scale)
    model.save_pretrained(directory)
    return directory
