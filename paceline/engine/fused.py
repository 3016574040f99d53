"""The parts of a decoder layer, each compiled into one call.

A forward of a small model is some sixty operators; calling each from Python costs a third of the time of a step and
takes the interpreter's lock sixty times, against the event loop of the same process. Scripted, a layer is two calls
that hold no lock. Where scripting is not to be had the same functions run as they stand.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any, Optional

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


project, attend, finish, head = (_compiled(part) for part in (_project, _attend, _finish, _head))
COMPILED = (project, attend, finish, head)
