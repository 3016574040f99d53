"""What all routes share."""

from __future__ import annotations

from dataclasses import dataclass

from gateway.http.counters import Counters
from gateway.http.models import Models
from gateway.service import Gateway


@dataclass(frozen=True)
class Face:
    gateway: Gateway
    models: Models
    counters: Counters
