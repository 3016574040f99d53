"""Weights laid out once, at load, for products with few rows at a time.

On a CPU in float32, oneDNN's prepacked weights make a product of 2 to 32 rows two to three times as fast as MKL's on
the same weights (docs/log.md). Elsewhere weights are kept transposed, which lets few rows read memory in order.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

Tensor = torch.Tensor

TYPICAL_ROWS = 16

_PACK: Any = getattr(torch.ops.mkldnn, "_reorder_linear_weight", None)
"""The operator that torch.compile itself uses on CPUs; builds without oneDNN do not have it."""


@dataclass(frozen=True)
class Linear:
    """``x @ W.T + bias``: ``weight`` is in oneDNN's own layout if ``packed``, else ``[in, out]``."""

    weight: Tensor
    bias: Tensor | None
    packed: bool

    @classmethod
    def make(cls, weight: Tensor, bias: Tensor | None) -> Linear:
        """From a weight ``[out, in]``, in the fastest form where it lies."""
        if weight.device.type == "cpu" and weight.dtype == torch.float32 and _PACK is not None:
            return cls(_PACK(weight.contiguous(), TYPICAL_ROWS), bias, packed=True)
        return cls(weight.t().contiguous(), bias, packed=False)
