"""The shape of a decoder, read from a Hugging Face checkpoint; what we do not compute is refused by name."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, PretrainedConfig
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

from paceline.errors import UnsupportedModel

FAMILIES = ("llama", "qwen2", "qwen3", "mistral")
ROPE_TYPES = ("default", "linear", "llama3", "yarn")


@dataclass(frozen=True)
class ModelConfig:
    """Everything the forward needs beside the weights."""

    family: str
    vocabulary_size: int
    hidden_size: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    norm_eps: float
    max_context: int
    tied: bool
    stop_token_ids: tuple[int, ...]
    inverse_frequencies: torch.Tensor
    rope_factor: float
    """Cosines and sines are multiplied by it (yarn's attention factor)."""

    @classmethod
    def load(cls, path: Path) -> ModelConfig:
        """Reads ``config.json``; remote code is never run."""
        return cls.from_huggingface(AutoConfig.from_pretrained(path, trust_remote_code=False))

    @classmethod
    def from_huggingface(cls, config: PretrainedConfig) -> ModelConfig:
        raw: dict[str, Any] = config.to_dict()
        _refuse_unsupported(raw)
        heads = raw["num_attention_heads"]
        head_dim = raw.get("head_dim") or raw["hidden_size"] // heads
        frequencies, factor = _rope(config, raw["rope_parameters"], head_dim)
        return cls(
            family=raw["model_type"],
            vocabulary_size=raw["vocab_size"],
            hidden_size=raw["hidden_size"],
            layers=raw["num_hidden_layers"],
            heads=heads,
            kv_heads=raw.get("num_key_value_heads") or heads,
            head_dim=head_dim,
            norm_eps=raw["rms_norm_eps"],
            max_context=raw["max_position_embeddings"],
            tied=bool(raw.get("tie_word_embeddings", True)),
            stop_token_ids=_stop_tokens(raw.get("eos_token_id")),
            inverse_frequencies=frequencies,
            rope_factor=factor,
        )


def _refuse_unsupported(raw: dict[str, Any]) -> None:
    family = raw.get("model_type")
    if family not in FAMILIES:
        raise UnsupportedModel("model_type", family, f"one of {', '.join(FAMILIES)}")
    if raw.get("hidden_act", "silu") != "silu":
        raise UnsupportedModel("hidden_act", raw["hidden_act"], "silu")
    for field in ("final_logit_softcapping", "attn_logit_softcapping"):
        if raw.get(field) is not None:
            raise UnsupportedModel(field, raw[field], "no soft-capping")
    window = raw.get("sliding_window")
    if window is not None and raw.get("use_sliding_window", True) and window < raw["max_position_embeddings"]:
        raise UnsupportedModel("sliding_window", window, "none, or at least max_position_embeddings")
    rope_type = raw["rope_parameters"].get("rope_type", "default")
    if rope_type not in ROPE_TYPES:
        raise UnsupportedModel("rope_type", rope_type, f"one of {', '.join(ROPE_TYPES)}")
    if raw["rope_parameters"].get("partial_rotary_factor", 1.0) != 1.0:
        raise UnsupportedModel("partial_rotary_factor", raw["rope_parameters"]["partial_rotary_factor"], "1.0")


def _rope(config: PretrainedConfig, parameters: dict[str, Any], head_dim: int) -> tuple[torch.Tensor, float]:
    if parameters.get("rope_type", "default") == "default":
        exponents = torch.arange(0, head_dim, 2, dtype=torch.int64).float() / head_dim
        return 1.0 / parameters["rope_theta"] ** exponents, 1.0
    frequencies, factor = ROPE_INIT_FUNCTIONS[parameters["rope_type"]](config, torch.device("cpu"))
    return frequencies, float(factor)


def _stop_tokens(eos: int | list[int] | None) -> tuple[int, ...]:
    if eos is None:
        return ()
    return (eos,) if isinstance(eos, int) else tuple(eos)
