"""Paceline: speculative decoding across unequal machines."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from paceline.offline import LLM as LLM
    from paceline.speculation.sampling import SamplingParameters as SamplingParameters

__version__ = "0.1.0"

_LAZY = {"LLM": "paceline.offline", "SamplingParameters": "paceline.speculation.sampling"}
"""What notebooks want at the top; imported when asked for, since most of our processes do without."""


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_LAZY[name]), name)
