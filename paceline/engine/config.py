"""The shape of a decoder, read from a Hugging Face checkpoint; what we do not compute is refused by name.

The files are read as they are: importing a configuration class of Transformers would cost each process some seconds.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from paceline.engine.rope import frequencies
from paceline.errors import UnsupportedModel
from paceline.logs import get_logger

logger = get_logger(__name__)
Raw = Mapping[str, Any]

_SHARED: dict[str, Any] = {"rms_norm_eps": 1e-6, "hidden_act": "silu", "tie_word_embeddings": False}
DEFAULTS: dict[str, dict[str, Any]] = {
    "llama": {**_SHARED, "max_position_embeddings": 2048},
    "qwen2": {**_SHARED, "max_position_embeddings": 32768, "num_key_value_heads": 32, "use_sliding_window": False},
    "qwen3": {
        **_SHARED, "max_position_embeddings": 32768, "num_key_value_heads": 32, "head_dim": 128,
        "use_sliding_window": False,
    },
    "mistral": {**_SHARED, "max_position_embeddings": 131072, "num_key_value_heads": 8, "sliding_window": 4096},
}  # fmt: skip
"""What each family means by a key that its ``config.json`` leaves out."""
FAMILIES = tuple(DEFAULTS)


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
        """Reads ``config.json`` and, for the stop tokens, ``generation_config.json``."""
        generation = path / "generation_config.json"
        return cls.of(_read(path / "config.json"), _read(generation) if generation.exists() else {})

    @classmethod
    def of(cls, config: Raw, generation: Raw | None = None) -> ModelConfig:
        """From the contents of the two files."""
        family = config.get("model_type")
        if family not in FAMILIES:
            raise UnsupportedModel("model_type", family, f"one of {', '.join(FAMILIES)}")
        raw = {**DEFAULTS[family], **config}
        _refuse_unsupported(raw)
        heads = raw["num_attention_heads"]
        head_dim = raw.get("head_dim") or raw["hidden_size"] // heads
        inverse, factor = frequencies(_rope_parameters(raw), head_dim, raw["max_position_embeddings"])
        stop = (generation or {}).get("eos_token_id")
        return cls(
            family=family,
            vocabulary_size=raw["vocab_size"],
            hidden_size=raw["hidden_size"],
            layers=raw["num_hidden_layers"],
            heads=heads,
            kv_heads=raw.get("num_key_value_heads") or heads,
            head_dim=head_dim,
            norm_eps=raw["rms_norm_eps"],
            max_context=_max_context(raw),
            tied=bool(raw["tie_word_embeddings"]),
            stop_token_ids=_stop_tokens(raw.get("eos_token_id") if stop is None else stop),
            inverse_frequencies=inverse,
            rope_factor=factor,
        )


def _read(file: Path) -> dict[str, Any]:
    try:
        content = json.loads(file.read_text())
    except (OSError, ValueError) as error:
        raise UnsupportedModel("checkpoint", str(file), f"a readable JSON file ({error})") from error
    if not isinstance(content, dict):
        raise UnsupportedModel("checkpoint", str(file), "a JSON object")
    return content


def _refuse_unsupported(raw: Raw) -> None:
    for field in ("vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads"):
        if not isinstance(raw.get(field), int):
            raise UnsupportedModel(field, raw.get(field), "a whole number")
    if raw["hidden_act"] != "silu":
        raise UnsupportedModel("hidden_act", raw["hidden_act"], "silu")
    for field in ("final_logit_softcapping", "attn_logit_softcapping", "quantization_config"):
        if raw.get(field) is not None:
            raise UnsupportedModel(field, raw[field], "none")


def _rope_parameters(raw: Raw) -> dict[str, Any]:
    """In today's form; older files have ``rope_theta`` beside ``rope_scaling``, and ``type`` for ``rope_type``."""
    given = raw.get("rope_parameters") or raw.get("rope_scaling") or {}
    parameters = {"rope_theta": raw.get("rope_theta") or 10000.0, **given}
    parameters.setdefault("rope_type", parameters.pop("type", "default"))
    return parameters


def _max_context(raw: Raw) -> int:
    """A sliding window is full attention as long as the text is not longer than the window."""
    longest: int = raw["max_position_embeddings"]
    window = raw.get("sliding_window") if raw.get("use_sliding_window", True) else None
    if window is None or window >= longest:
        return longest
    logger.warning("the context is limited to the sliding window", tokens=window, instead_of=longest)
    return int(window)


def _stop_tokens(eos: int | list[int] | None) -> tuple[int, ...]:
    if eos is None:
        return ()
    return (eos,) if isinstance(eos, int) else tuple(eos)
