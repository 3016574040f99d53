"""Matrix products with weights laid out once, at load, for few rows at a time.

On a CPU in float32, oneDNN's prepacked weights make a product of 2 to 32 rows two to three times as fast as MKL's on
the same weights (docs/log.md). Elsewhere weights are kept transposed, which lets few rows read memory in order.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import torch

Tensor = torch.Tensor

TYPICAL_ROWS = 16

_PACK: Any = getattr(torch.ops.mkldnn, "_reorder_linear_weight", None)
_PRODUCT: Any = getattr(torch.ops.mkldnn, "_linear_pointwise", None)
"""The operators that torch.compile itself uses on CPUs; builds without oneDNN do not have them."""


class Linear(Protocol):
    """``x @ weight.T + bias`` for ``x`` of ``[rows, in]``."""

    def __call__(self, x: Tensor) -> Tensor: ...


@dataclass(frozen=True)
class Transposed:
    """Weight ``[in, out]``."""

    weight: Tensor
    bias: Tensor | None

    def __call__(self, x: Tensor) -> Tensor:
        return x @ self.weight if self.bias is None else torch.addmm(self.bias, x, self.weight)


@dataclass(frozen=True)
class Packed:
    """Weight in oneDNN's own layout, an opaque tensor."""

    weight: Tensor
    bias: Tensor | None

    def __call__(self, x: Tensor) -> Tensor:
        product: Tensor = _PRODUCT(x, self.weight, self.bias, "none", [], "")
        return product


def make_linear(weight: Tensor, bias: Tensor | None) -> Linear:
    """The fastest form of a weight ``[out, in]`` where it lies."""
    if weight.device.type == "cpu" and weight.dtype == torch.float32 and _PACK is not None:
        return Packed(_PACK(weight.contiguous(), TYPICAL_ROWS), bias)
    return Transposed(weight.t().contiguous(), bias)
