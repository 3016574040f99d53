"""Where a fleet runs, as the command line says it."""

from __future__ import annotations

from enum import Enum


class Place(Enum):
    LOCAL = "local"
    RAY = "ray"
