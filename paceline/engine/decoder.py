"""The decoder forward for Llama, Qwen2, Qwen3 and Mistral: their differences are data in the weights."""

from __future__ import annotations

import torch
from torch.nn import functional as F

from paceline.engine.batch import Attention, Batch
from paceline.engine.config import ModelConfig
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
            hidden = hidden + self._attend(layer, self._norm(hidden, layer.input_norm), cos, sin, kv, batch)
            gate, up = layer.gate_up(self._norm(hidden, layer.mlp_norm)).chunk(2, -1)
            hidden = hidden + layer.down(F.silu(gate) * up)
        if batch.logit_rows is not None:
            hidden = hidden[batch.logit_rows]
        return self.weights.head(self._norm(hidden, self.weights.norm))

    def _norm(self, x: Tensor, weight: Tensor) -> Tensor:
        return F.rms_norm(x, (x.shape[-1],), weight, self.config.norm_eps)

    def _attend(self, layer: LayerWeights, x: Tensor, cos: Tensor, sin: Tensor, kv: Tensor, batch: Batch) -> Tensor:
        config = self.config
        rotated = config.heads + config.kv_heads
        qkv = layer.qkv(x).view(len(x), rotated + config.kv_heads, config.head_dim)
        queries_keys, values = qkv[:, :rotated], qkv[:, rotated:]
        if layer.q_norm is not None and layer.k_norm is not None:
            queries_keys = torch.cat(
                [
                    self._norm(qkv[:, : config.heads], layer.q_norm),
                    self._norm(qkv[:, config.heads : rotated], layer.k_norm),
                ],
                1,
            )
        half = config.head_dim // 2
        turned = torch.cat([queries_keys[..., half:], queries_keys[..., :half]], -1)
        queries_keys = queries_keys * cos + turned * sin
        kv[0].index_copy_(0, batch.slots, queries_keys[:, config.heads :])
        kv[1].index_copy_(0, batch.slots, values)
        queries = queries_keys[:, : config.heads]
        if len(batch.attention) == 1 and isinstance(batch.attention[0].rows, slice):
            return layer.output(self._one_call(queries, kv, batch.attention[0]))
        mixed = torch.empty(len(x), config.heads * config.head_dim, device=x.device, dtype=x.dtype)
        for call in batch.attention:
            answer = self._one_call(queries[call.rows], kv, call)
            if isinstance(call.rows, slice) or call.valid is None:
                mixed[call.rows] = answer
            else:
                mixed[call.rows[call.valid]] = answer[call.valid]
        return layer.output(mixed)

    def _one_call(self, queries: Tensor, kv: Tensor, call: Attention) -> Tensor:
        """``queries`` is ``[(sessions,) rows, heads, dim]``; the heads of a group become rows."""
        config, group = self.config, self.group_size
        batched = queries.dim() == 4
        sessions, rows = queries.shape[:2] if batched else (1, len(queries))
        keys, values = (
            (kv[0][call.keys], kv[1][call.keys]) if not isinstance(call.keys, slice) else kv[:, None, call.keys]
        )
        asked = queries.reshape(sessions, rows, config.kv_heads, group, config.head_dim)
        asked = asked.permute(0, 2, 1, 3, 4).reshape(sessions, config.kv_heads, rows * group, config.head_dim)
        mixed = F.scaled_dot_product_attention(asked, keys.transpose(1, 2), values.transpose(1, 2), attn_mask=call.bias)
        mixed = mixed.view(sessions, config.kv_heads, rows, group, config.head_dim).permute(0, 2, 1, 3, 4)
        flat = mixed.reshape(sessions, rows, config.heads * config.head_dim)
        return flat if batched else flat[0]
