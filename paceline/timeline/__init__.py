"""Timelines as files: a page to look at, or a trace for Perfetto."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from paceline.speculation.fields import require
from paceline.timeline.chrome import chrome_trace
from paceline.timeline.page import timeline_page

__all__ = ["check_ending", "chrome_trace", "timeline_page", "write_timeline"]

Timeline = Mapping[str, Any]
"""``{"answers": [...]}``, as docs/observability.md describes it."""


def _trace_text(timeline: Timeline) -> str:
    return json.dumps(chrome_trace(timeline), separators=(",", ":")) + "\n"


_KINDS: Mapping[str, Callable[[Timeline], str]] = {".html": timeline_page, ".json": _trace_text}


def check_ending(path: Path, field: str) -> None:
    """Raises ``FieldError`` unless we know what to write into a file of this name."""
    require(path.suffix in _KINDS, field, str(path), "a file that ends in .html (a page) or .json (for Perfetto)")
    require(path.parent.is_dir(), field, str(path), "a file in a folder that is there")


def write_timeline(timeline: Timeline, path: Path) -> None:
    """Replaces the file; what it holds follows from its ending."""
    path.write_text(_KINDS[path.suffix](timeline), encoding="utf-8")
