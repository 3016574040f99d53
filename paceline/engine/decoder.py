"""The decoder forward for Llama, Qwen2, Qwen3 and Mistral: their differences are data in the weights."""

from __future__ import annotations

import torch
from torch.nn import functional as F

from paceline.engine import fused
from paceline.engine.batch import Attention, Batch
from paceline.engine.config import ModelConfig
from paceline.engine.linear import Linear
from paceline.engine.weights import DecoderWeights, LayerWeights

Tensor = torch.Tensor


class Decoder:
    """Computes logits of a batch of rows and writes their K/V into the cache."""

    def __init__(self, config: ModelConfig, weights: DecoderWeights) -> None:
        self.config, self.weights = config, weights
        self.device, self.dtype = weights.embedding.device, weights.embedding.dtype
        self.group_size = config.heads // config.kv_heads
        angles = torch.outer(torch.arange(config.max_context).float(), config.inverse_frequencies.float())
        angles = torch.cat([angles, angles], -1)
        self._cos = (angles.cos() * config.rope_factor).to(self.device, self.dtype)
        sin = (angles.sin() * config.rope_factor).to(self.device, self.dtype)
        half = config.head_dim // 2
        self._sin = torch.cat([-sin[:, :half], sin[:, half:]], -1)  # the sign of the rotated half, put in once

    @torch.inference_mode()
    def forward(self, batch: Batch, cache: Tensor) -> Tensor:
        """Logits ``[wanted rows, vocabulary]``; ``cache`` is ``[layers, 2, slots, kv_heads, head_dim]``."""
        hidden = F.embedding(batch.token_ids, self.weights.embedding)
        cos = self._cos[batch.positions].unsqueeze(1)
        sin = self._sin[batch.positions].unsqueeze(1)
        for layer, kv in zip(self.weights.layers, cache, strict=True):
            queries = self._project(layer, hidden, cos, sin, kv, batch.slots)
            hidden = self._finish(layer, hidden, self._attend(queries, kv, batch))
        if batch.logit_rows is not None:
            hidden = hidden[batch.logit_rows]
        logits: Tensor = fused.head(hidden, self.weights.norm, self.config.norm_eps, *_parts(self.weights.head))
        return logits

    def _project(self, layer: LayerWeights, x: Tensor, cos: Tensor, sin: Tensor, kv: Tensor, slots: Tensor) -> Tensor:
        config, qkv = self.config, layer.qkv
        queries: Tensor = fused.project(
            x, layer.input_norm, config.norm_eps, qkv.weight, qkv.bias, qkv.packed, layer.q_norm, layer.k_norm,
            config.heads, config.kv_heads, cos, sin, kv, slots,
        )  # fmt: skip
        return queries

    def _finish(self, layer: LayerWeights, x: Tensor, mixed: Tensor) -> Tensor:
        output, gate_up, down = layer.output, layer.gate_up, layer.down
        hidden: Tensor = fused.finish(
            x, mixed, output.weight, output.bias, layer.mlp_norm, self.config.norm_eps, gate_up.weight, gate_up.bias,
            down.weight, down.bias, down.packed,
        )  # fmt: skip
        return hidden

    def _attend(self, queries: Tensor, kv: Tensor, batch: Batch) -> Tensor:
        """Every attention call of the batch; ``[rows, heads * dim]``."""
        if len(batch.attention) == 1 and isinstance(batch.attention[0].rows, slice):
            return self._one_call(queries, kv, batch.attention[0])[0]
        mixed = queries.new_empty(len(queries), queries.shape[1] * queries.shape[2])
        for call in batch.attention:
            answer = self._one_call(queries[call.rows], kv, call)
            if isinstance(call.rows, slice) or call.valid is None:
                mixed[call.rows] = answer[0]
            else:
                mixed[call.rows[call.valid]] = answer[call.valid]
        return mixed

    @staticmethod
    def _one_call(queries: Tensor, kv: Tensor, call: Attention) -> Tensor:
        """``queries`` is ``[(sessions,) rows, heads, dim]``; ``[sessions, rows, heads * dim]``."""
        batched = queries if queries.dim() == 4 else queries[None]
        keys, values = kv[:, None, call.keys] if isinstance(call.keys, slice) else kv[:, call.keys]
        answer: Tensor = fused.attend(batched, keys, values, call.bias)
        return answer


def _parts(linear: Linear) -> tuple[Tensor, Tensor | None, bool]:
    return linear.weight, linear.bias, linear.packed
