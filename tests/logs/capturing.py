"""What is logged meanwhile, as a service's own handler would write it."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from paceline.logs import JSON, formatter


@contextmanager
def written(
    form: str = JSON, worker: str = "", level: int = logging.INFO, *, colours: bool = False
) -> Iterator[io.StringIO]:
    stream, root = io.StringIO(), logging.getLogger()
    handler, before = logging.StreamHandler(stream), root.level
    handler.setFormatter(formatter(form, lambda: worker, colours=colours))
    root.addHandler(handler)
    root.setLevel(level)
    try:
        yield stream
    finally:
        root.removeHandler(handler)
        root.setLevel(before)


def lines(log: io.StringIO, **about: Any) -> list[dict[str, Any]]:
    """The objects that were written, of those the ones with these fields."""
    found = [json.loads(line) for line in log.getvalue().splitlines()]
    return [line for line in found if about.items() <= line.items()]
