"""Weights from safetensors, laid out for the forward: fused projections, repacked once at load."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file

from paceline.engine.config import ModelConfig
from paceline.engine.linear import Linear
from paceline.errors import UnsupportedModel

Tensor = torch.Tensor


@dataclass(frozen=True)
class LayerWeights:
    input_norm: Tensor
    qkv: Linear
    q_norm: Tensor | None
    k_norm: Tensor | None
    output: Linear
    mlp_norm: Tensor
    gate_up: Linear
    down: Linear


@dataclass(frozen=True)
class DecoderWeights:
    embedding: Tensor
    layers: tuple[LayerWeights, ...]
    norm: Tensor
    head: Linear


def load_weights(path: Path, config: ModelConfig, device: torch.device, dtype: torch.dtype) -> DecoderWeights:
    """Reads every safetensors shard below ``path``; pickled weights are not read at all."""
    shards = _shards(path)
    state: dict[str, Tensor] = {}
    for shard in shards:
        state.update(load_file(shard))
    return arrange(state, config, device, dtype)


def weights_digest(path: Path) -> str:
    """SHA-256 over the shards, for the fingerprint."""
    digest = hashlib.sha256()
    for shard in _shards(path):
        with shard.open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()


def _shards(path: Path) -> list[Path]:
    index = path / "model.safetensors.index.json"
    names = (
        sorted(set(json.loads(index.read_text())["weight_map"].values())) if index.exists() else ["model.safetensors"]
    )
    shards = [path / name for name in names]
    for shard in shards:
        if not shard.exists():
            raise UnsupportedModel("weights", str(shard), "safetensors files beside config.json")
    return shards


def arrange(
    state: Mapping[str, Tensor], config: ModelConfig, device: torch.device, dtype: torch.dtype
) -> DecoderWeights:
    """Fuses and repacks a Hugging Face state dict; a bias or norm is used where the checkpoint has one."""

    def get(name: str) -> Tensor:
        return state[name].to(device, dtype)

    def optional(name: str) -> Tensor | None:
        return get(name) if name in state else None

    def linear(prefix: str, *names: str) -> Linear:
        weight = torch.cat([get(f"{prefix}.{name}.weight") for name in names])
        biases = [optional(f"{prefix}.{name}.bias") for name in names]
        present = [bias for bias in biases if bias is not None]
        return Linear.make(weight, torch.cat(present) if present else None)

    def layer(index: int) -> LayerWeights:
        base = f"model.layers.{index}"
        return LayerWeights(
            input_norm=get(f"{base}.input_layernorm.weight"),
            qkv=linear(f"{base}.self_attn", "q_proj", "k_proj", "v_proj"),
            q_norm=optional(f"{base}.self_attn.q_norm.weight"),
            k_norm=optional(f"{base}.self_attn.k_norm.weight"),
            output=linear(f"{base}.self_attn", "o_proj"),
            mlp_norm=get(f"{base}.post_attention_layernorm.weight"),
            gate_up=linear(f"{base}.mlp", "gate_proj", "up_proj"),
            down=linear(f"{base}.mlp", "down_proj"),
        )

    embedding = get("model.embed_tokens.weight")
    head = embedding if config.tied else get("lm_head.weight")
    return DecoderWeights(
        embedding=embedding,
        layers=tuple(layer(index) for index in range(config.layers)),
        norm=get("model.norm.weight"),
        head=Linear.make(head, None),
    )
