"""Rotary position frequencies, with the ways of stretching them that the supported families use."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch

from paceline.errors import UnsupportedModel

Tensor = torch.Tensor
Parameters = Mapping[str, Any]


def frequencies(parameters: Parameters, head_dim: int, max_context: int) -> tuple[Tensor, float]:
    """Inverse frequencies ``[head_dim / 2]`` and the factor for cosines and sines.

    ``parameters`` are those of Transformers: ``rope_type``, ``rope_theta`` and what the type needs.
    """
    kind = parameters.get("rope_type", "default")
    if kind not in _KINDS:
        raise UnsupportedModel("rope_type", kind, f"one of {', '.join(_KINDS)}")
    if parameters.get("partial_rotary_factor", 1.0) != 1.0:
        raise UnsupportedModel("partial_rotary_factor", parameters["partial_rotary_factor"], "1.0")
    exponents = torch.arange(0, head_dim, 2, dtype=torch.int64).float() / head_dim
    plain = 1.0 / parameters["rope_theta"] ** exponents
    try:
        return _KINDS[kind](plain, {"original_max_position_embeddings": max_context, **parameters})
    except KeyError as error:
        raise UnsupportedModel("rope_parameters", dict(parameters), f"the key {error} for {kind}") from error


def _linear(plain: Tensor, parameters: Parameters) -> tuple[Tensor, float]:
    return plain / parameters["factor"], 1.0


def _llama3(plain: Tensor, parameters: Parameters) -> tuple[Tensor, float]:
    """Long wavelengths are stretched, short ones kept, those between blended (Llama 3.1)."""
    context = parameters["original_max_position_embeddings"]
    low, high = parameters["low_freq_factor"], parameters["high_freq_factor"]
    turns = context * plain / (2 * math.pi)
    kept = ((turns - low) / (high - low)).clamp(0, 1)
    return (1 - kept) * plain / parameters["factor"] + kept * plain, 1.0


def _yarn(plain: Tensor, parameters: Parameters) -> tuple[Tensor, float]:
    """Dimensions that turn often within the original context are kept, others stretched (YaRN, arXiv 2309.00071)."""
    factor, context = parameters["factor"], parameters["original_max_position_embeddings"]
    base, dim = parameters["rope_theta"], 2 * len(plain)

    def dimension_of(turns: float) -> float:
        return dim * math.log(context / (turns * 2 * math.pi)) / (2 * math.log(base))

    low = dimension_of(parameters.get("beta_fast") or 32)
    high = dimension_of(parameters.get("beta_slow") or 1)
    if parameters.get("truncate", True):
        low, high = math.floor(low), math.ceil(high)
    low, high = max(low, 0), min(high, dim - 1)
    stretched = ((torch.arange(len(plain)).float() - low) / max(high - low, 0.001)).clamp(0, 1)
    return plain / factor * stretched + plain * (1 - stretched), _yarn_attention(parameters, factor)


def _yarn_attention(parameters: Parameters, factor: float) -> float:
    if parameters.get("attention_factor") is not None:
        return float(parameters["attention_factor"])

    def scale(weight: float) -> float:
        return 0.1 * weight * math.log(factor) + 1.0 if factor > 1 else 1.0

    over, under = parameters.get("mscale"), parameters.get("mscale_all_dim")
    return scale(over) / scale(under) if over and under else scale(1.0)


_KINDS: dict[str, Callable[[Tensor, Parameters], tuple[Tensor, float]]] = {
    "default": lambda plain, _: (plain, 1.0),
    "linear": _linear,
    "llama3": _llama3,
    "yarn": _yarn,
}
