"""The parts of a decoder layer, each compiled into one call.

A forward of a small model is some sixty operators; calling each from Python costs a third of the time of a step and
takes the interpreter's lock sixty times, against the event loop of the same process. Scripted, a layer is two calls
that hold no lock. Where scripting is not to be had the same functions run as they stand.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any, List, Optional  # noqa: UP035

import torch
from torch.nn import functional as F

Tensor = torch.Tensor


def _linear(x: Tensor, weight: Tensor, bias: Optional[Tensor], packed: bool) -> Tensor:  # noqa: FBT001, UP045
    if packed:
        product: Tensor = torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")  # noqa: SLF001
        return product
    if bias is None:
        return x @ weight
    return torch.addmm(bias, x, weight)


def _project(
    x: Tensor,
    norm: Tensor,
    eps: float,
    weight: Tensor,
    bias: Optional[Tensor],  # noqa: UP045 - what the scripting compiler reads
    packed: bool,  # noqa: FBT001
    q_norm: Optional[Tensor],  # noqa: UP045
    k_norm: Optional[Tensor],  # noqa: UP045
    heads: int,
    kv_heads: int,
    cos: Tensor,
    sin: Tensor,
    kv: Tensor,
    slots: Tensor,
) -> Tensor:
    """Writes K/V of the rows ``x`` into their slots and returns their queries ``[rows, heads, dim]``."""
    dim = cos.size(-1)
    rotated = heads + kv_heads
    qkv = _linear(F.rms_norm(x, [x.size(-1)], norm, eps), weight, bias, packed).view(x.size(0), rotated + kv_heads, dim)
    turning = qkv[:, :rotated]
    if q_norm is not None and k_norm is not None:
        queries = F.rms_norm(qkv[:, :heads], [dim], q_norm, eps)
        turning = torch.cat([queries, F.rms_norm(qkv[:, heads:rotated], [dim], k_norm, eps)], 1)
    half = dim // 2
    turned = torch.cat([turning[:, :, half:], turning[:, :, :half]], -1)
    turning = turning * cos + turned * sin
    kv[0].index_copy_(0, slots, turning[:, heads:])
    kv[1].index_copy_(0, slots, qkv[:, rotated:])
    return turning[:, :heads]


def _attend(queries: Tensor, keys: Tensor, values: Tensor, bias: Optional[Tensor]) -> Tensor:  # noqa: UP045
    """``queries`` ``[sessions, rows, heads, dim]`` over ``keys`` ``[sessions, keys, kv_heads, dim]``; ``[sessions,
    rows, heads * dim]``. The heads of a group become rows, so that their common keys are read once."""
    sessions, rows, heads, dim = queries.size(0), queries.size(1), queries.size(2), queries.size(3)
    kv_heads = keys.size(2)
    group = heads // kv_heads
    asked = queries.reshape(sessions, rows, kv_heads, group, dim).permute(0, 2, 1, 3, 4)
    asked = asked.reshape(sessions, kv_heads, rows * group, dim)
    mixed = F.scaled_dot_product_attention(asked, keys.transpose(1, 2), values.transpose(1, 2), attn_mask=bias)
    mixed = mixed.view(sessions, kv_heads, rows, group, dim).permute(0, 2, 1, 3, 4)
    return mixed.reshape(sessions, rows, heads * dim)


def _attend_alone(
    queries: Tensor,
    keys: Tensor,
    values: Tensor,
    committed: Tensor,
    paths: Tensor,
    counts: List[int],  # noqa: UP006
    offsets: List[int],  # noqa: UP006
    lengths: List[int],  # noqa: UP006
) -> Tensor:
    """Row after row of ``queries`` ``[rows, heads, dim]``; the arguments are those of ``attention.Alone``. Query and
    buffers are fresh copies, so that not even their alignment in memory depends on the batch."""
    rows, heads, dim, kv_heads = queries.size(0), queries.size(1), queries.size(2), keys.size(1)
    room, base, start = max(lengths), committed.size(0), 0
    own_keys, own_values = keys.new_empty([room, kv_heads, dim]), keys.new_empty([room, kv_heads, dim])
    own_keys[:base] = keys.index_select(0, committed)
    own_values[:base] = values.index_select(0, committed)
    mixed = queries.new_empty([rows, heads * dim])
    for row in range(rows):
        count, offset, length = counts[row], offsets[row], lengths[row]
        path = paths[start : start + count]
        start += count
        own_keys[offset : offset + count] = keys.index_select(0, path)
        own_values[offset : offset + count] = values.index_select(0, path)
        asked = queries[row].clone().view(1, kv_heads, heads // kv_heads, dim)
        seen, held = own_keys[:length].transpose(0, 1).unsqueeze(0), own_values[:length].transpose(0, 1).unsqueeze(0)
        mixed[row] = F.scaled_dot_product_attention(asked, seen, held).reshape(heads * dim)
    return mixed


def _finish(
    x: Tensor,
    mixed: Tensor,
    output: Tensor,
    output_bias: Optional[Tensor],  # noqa: UP045
    norm: Tensor,
    eps: float,
    gate_up: Tensor,
    gate_up_bias: Optional[Tensor],  # noqa: UP045
    down: Tensor,
    down_bias: Optional[Tensor],  # noqa: UP045
    packed: bool,  # noqa: FBT001
) -> Tensor:
    """What follows attention in a layer: output projection, residual, MLP, residual."""
    x = x + _linear(mixed, output, output_bias, packed)
    halves = _linear(F.rms_norm(x, [x.size(-1)], norm, eps), gate_up, gate_up_bias, packed).chunk(2, -1)
    return x + _linear(F.silu(halves[0]) * halves[1], down, down_bias, packed)


def _head(x: Tensor, norm: Tensor, eps: float, weight: Tensor, bias: Optional[Tensor], packed: bool) -> Tensor:  # noqa: FBT001, UP045
    """Logits of the rows ``x``."""
    return _linear(F.rms_norm(x, [x.size(-1)], norm, eps), weight, bias, packed)


def _compiled(function: Callable[..., Tensor]) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # scripting is deprecated, and still the only way without a C++ compiler
        try:
            return torch.jit.script(function)
        except RuntimeError:
            return function


COMPILED = tuple(_compiled(part) for part in (_project, _attend, _attend_alone, _finish, _head))
project, attend, attend_alone, finish, head = COMPILED
