"""What a process tells of itself: spans, measurements, and the trace context that ties them together.

Nothing here is global: each service has a ``Telemetry`` of its own, also where several run in one process.
"""

from __future__ import annotations

from paceline.telemetry.context import (
    context_of,
    hear,
    heard,
    link_to,
    trace_id_of,
    traceparent_of,
    valid_or_new,
    with_context,
)
from paceline.telemetry.provider import OFF, Telemetry, telemetry_of

__all__ = [
    "OFF",
    "Telemetry",
    "context_of",
    "hear",
    "heard",
    "link_to",
    "telemetry_of",
    "trace_id_of",
    "traceparent_of",
    "valid_or_new",
    "with_context",
]
