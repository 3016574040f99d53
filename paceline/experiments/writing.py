"""Rows as JSON: the same rows give the same bytes."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from paceline.experiments.results import Row
from paceline.experiments.specification import PRICES


def rows_as_json(rows: Sequence[Row]) -> str:
    """One object with ``rows``, each as its fields, and ``dollars_per_million`` by price; null without goodput."""
    return json.dumps({"rows": [_plain(row) for row in rows]}, indent=1, allow_nan=False) + "\n"


def write_rows(file: Path, rows: Sequence[Row]) -> None:
    file.write_text(rows_as_json(rows), encoding="utf-8")


def _plain(row: Row) -> dict[str, Any]:
    plain = dataclasses.asdict(row)
    plain |= {"system": row.system.value, "instrument": row.instrument.value}
    dollars = {price: row.dollars_per_million(price) for price in PRICES if price in row.dollars_per_hour}
    plain["dollars_per_million"] = {price: cost if math.isfinite(cost) else None for price, cost in dollars.items()}
    return plain
