"""Checkpoints of random weights in the shapes of real models, written shard by shard: only one is ever in memory."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from paceline.embedded import TARGET

LOGIT_DEVIATION = 3.0
"""Standard deviation of the logits. With less the noise that they share makes two random models agree by chance; with
more a draft model is so sure of itself that a few misses silence it."""
BYTES_PER_WEIGHT = 2
Sizes = dict[str, tuple[int, ...]]


@dataclass(frozen=True)
class Shape:
    """A Llama without its weights. ``vocabulary`` may be padded beyond the embedded tokenizer's."""

    name: str
    hidden: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    intermediate: int
    vocabulary: int
    tied: bool = False

    def config(self) -> dict[str, Any]:
        """As ``config.json`` has it; nothing stops a text."""
        return {
            "model_type": "llama", "hidden_act": "silu", "dtype": "bfloat16", "eos_token_id": None,
            "hidden_size": self.hidden, "num_hidden_layers": self.layers, "num_attention_heads": self.heads,
            "num_key_value_heads": self.kv_heads, "head_dim": self.head_dim, "intermediate_size": self.intermediate,
            "vocab_size": self.vocabulary, "tie_word_embeddings": self.tied, "max_position_embeddings": 8192,
            "rope_theta": 500000.0, "rms_norm_eps": 1e-5,
        }  # fmt: skip

    def shards(self) -> Iterator[Sizes]:
        """Names and sizes of the tensors: one layer to a shard, and one matrix of the vocabulary."""
        yield {"model.embed_tokens.weight": (self.vocabulary, self.hidden), "model.norm.weight": (self.hidden,)}
        for index in range(self.layers):
            yield {f"model.layers.{index}.{name}.weight": size for name, size in self._layer().items()}
        if not self.tied:
            yield {"lm_head.weight": (self.vocabulary, self.hidden)}

    def _layer(self) -> Sizes:
        queries, keys = self.heads * self.head_dim, self.kv_heads * self.head_dim
        return {
            "input_layernorm": (self.hidden,),
            "self_attn.q_proj": (queries, self.hidden),
            "self_attn.k_proj": (keys, self.hidden),
            "self_attn.v_proj": (keys, self.hidden),
            "self_attn.o_proj": (self.hidden, queries),
            "post_attention_layernorm": (self.hidden,),
            "mlp.gate_proj": (self.intermediate, self.hidden),
            "mlp.up_proj": (self.intermediate, self.hidden),
            "mlp.down_proj": (self.hidden, self.intermediate),
        }

    @property
    def parameters(self) -> int:
        return sum(math.prod(size) for shard in self.shards() for size in shard.values())

    @property
    def size_bytes(self) -> int:
        return BYTES_PER_WEIGHT * self.parameters


LLAMA_3_8B = Shape("Llama 3 8B", 4096, 32, 32, 8, 128, 14336, 128256)
LLAMA_3_2_1B = Shape("Llama 3.2 1B", 2048, 16, 32, 8, 64, 8192, 128256, tied=True)
TINY, TINIER = Shape("tiny", 64, 2, 4, 2, 16, 128, 4160), Shape("tinier", 32, 1, 2, 1, 16, 64, 4160, tied=True)
PAIRS = {"8b": (LLAMA_3_8B, LLAMA_3_2_1B), "tiny": (TINY, TINIER)}
"""Targets with their drafts."""


def write_random(directory: Path, shape: Shape, seed: int) -> Path:
    """Writes ``config.json``, bfloat16 shards with their index, and the embedded tokenizer."""
    directory.mkdir()
    (directory / "config.json").write_text(json.dumps(shape.config()))
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(TARGET / name, directory / name)
    generator = torch.Generator().manual_seed(seed)
    places: dict[str, str] = {}
    for index, sizes in enumerate(shape.shards()):
        file = f"model-{index:05d}.safetensors"
        save_file({name: _random(name, size, generator) for name, size in sizes.items()}, directory / file)
        places |= dict.fromkeys(sizes, file)
    (directory / "model.safetensors.index.json").write_text(json.dumps({"weight_map": places}))
    return directory


def _random(name: str, size: tuple[int, ...], generator: torch.Generator) -> torch.Tensor:
    """Norms of one; matrices whose products with normed rows have a standard deviation of one, logits more."""
    if len(size) == 1:
        return torch.ones(size, dtype=torch.bfloat16)
    deviation = LOGIT_DEVIATION if "embed" in name or "head" in name else 1.0
    weights = torch.empty(size, dtype=torch.bfloat16)
    return weights.normal_(0.0, deviation / math.sqrt(size[1]), generator=generator)
