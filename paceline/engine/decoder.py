"""The decoder forward for Llama, Qwen2, Qwen3 and Mistral: their differences are data in the weights."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch.nn import functional as F

from paceline.engine import fused
from paceline.engine.batch import Batch
from paceline.engine.config import ModelConfig
from paceline.engine.linear import Linear
from paceline.engine.tiles import LARGEST, agreeing_sizes, tiles
from paceline.engine.weights import DecoderWeights, LayerWeights

Tensor = torch.Tensor


class Decoder:
    """Computes logits of a batch of rows and writes their K/V into the cache."""

    def __init__(
        self, config: ModelConfig, weights: DecoderWeights, max_positions: int, *, deterministic: bool = False
    ) -> None:
        """``max_positions``: rows of the longest sequence; ``deterministic``: bits do not depend on the batch."""
        self.config, self.weights, self.deterministic = config, weights, deterministic
        self.device, self.dtype = weights.embedding.device, weights.embedding.dtype
        self.group = config.heads // config.kv_heads
        angles = torch.outer(torch.arange(max_positions).float(), config.inverse_frequencies.float())
        angles = torch.cat([angles, angles], -1)
        self._cos = (angles.cos() * config.rope_factor).to(self.device, self.dtype)[:, None]
        sin = (angles.sin() * config.rope_factor).to(self.device, self.dtype)
        half = config.head_dim // 2
        self._sin = torch.cat([-sin[:, :half], sin[:, half:]], -1)[:, None]  # the sign of the rotated half, put in once
        self.sizes: tuple[int, ...] = ()
        """Numbers of rows that are computed together, see ``tiles``; empty: all at once."""
        if deterministic:
            self.sizes = self._agreeing_sizes()

    @torch.inference_mode()
    def forward(self, batch: Batch, cache: Tensor) -> Tensor:
        """Logits ``[wanted rows, vocabulary]``; ``cache`` is ``[layers, 2, slots, kv_heads, head_dim]``."""
        hidden = F.embedding(batch.token_ids, self.weights.embedding)
        cos, sin = self._cos[batch.positions], self._sin[batch.positions]
        for layer, kv in zip(self.weights.layers, cache, strict=True):
            queries = self._project(layer, hidden, cos, sin, kv, batch.slots)
            hidden = self._finish(layer, hidden, self._attend(queries, kv, batch))
        if batch.logit_rows is not None:
            hidden = hidden[batch.logit_rows]
        return self._head(hidden)

    def _attend(self, queries: Tensor, kv: Tensor, batch: Batch) -> Tensor:
        """``[rows, heads * dim]``."""
        mixed = queries.new_empty(len(queries), queries.shape[1] * queries.shape[2])
        for part in batch.attention:
            part.mix(queries, kv, mixed)
        return mixed

    # -- row by row ----------------------------------------------------------------------------------------------------

    def _project(self, layer: LayerWeights, x: Tensor, cos: Tensor, sin: Tensor, kv: Tensor, slots: Tensor) -> Tensor:
        config, qkv = self.config, layer.qkv

        def part(rows: slice) -> Tensor:
            queries: Tensor = fused.project(
                x[rows], layer.input_norm, config.norm_eps, qkv.weight, qkv.bias, qkv.packed, layer.q_norm,
                layer.k_norm, config.heads, config.kv_heads, cos[rows], sin[rows], kv, slots[rows],
            )  # fmt: skip
            return queries

        return self._in_tiles(part, len(x))

    def _finish(self, layer: LayerWeights, x: Tensor, mixed: Tensor) -> Tensor:
        output, gate_up, down = layer.output, layer.gate_up, layer.down

        def part(rows: slice) -> Tensor:
            hidden: Tensor = fused.finish(
                x[rows], mixed[rows], output.weight, output.bias, layer.mlp_norm, self.config.norm_eps, gate_up.weight,
                gate_up.bias, down.weight, down.bias, down.packed,
            )  # fmt: skip
            return hidden

        return self._in_tiles(part, len(x))

    def _head(self, x: Tensor) -> Tensor:
        def part(rows: slice) -> Tensor:
            logits: Tensor = fused.head(x[rows], self.weights.norm, self.config.norm_eps, *_parts(self.weights.head))
            return logits

        return self._in_tiles(part, len(x))

    def _in_tiles(self, part: Callable[[slice], Tensor], rows: int) -> Tensor:
        if not self.sizes:
            return part(slice(None))
        return torch.cat([part(tile) for tile in tiles(rows, self.sizes)])

    @torch.inference_mode()
    def _agreeing_sizes(self) -> tuple[int, ...]:
        """Tile sizes that give all of a layer and the head the bits of a single row; layers have equal shapes."""
        layer, config = self.weights.layers[0], self.config
        generator = torch.Generator().manual_seed(0)
        rows = torch.randn(2 * LARGEST, config.hidden_size, generator=generator).to(self.device, self.dtype)
        shape = (2, len(rows), config.kv_heads, config.head_dim)
        kv = torch.zeros(shape, device=self.device, dtype=self.dtype)

        def all_parts(x: Tensor) -> Tensor:
            places = torch.full((len(x),), min(7, len(self._cos) - 1), device=self.device)
            slots = torch.arange(len(x), device=self.device)
            queries = self._project(layer, x, self._cos[places], self._sin[places], kv, slots).flatten(1)
            hidden = self._finish(layer, x, queries)
            written = kv[:, : len(x)].transpose(0, 1).flatten(1)
            return torch.cat([queries, written, hidden, self._head(hidden)], 1)

        return agreeing_sizes(all_parts, rows)


def _parts(linear: Linear) -> tuple[Tensor, Tensor | None, bool]:
    return linear.weight, linear.bias, linear.packed
