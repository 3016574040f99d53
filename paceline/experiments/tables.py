"""The figures that experiments are made of, from ``data/``: cards, prices, step times, acceptance.

What each figure is, measured, derived or a planning value, stands beside it in its file, and in ``data/README.md``.
"""

from __future__ import annotations

import csv
import functools
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from paceline.experiments.specification import PRICES
from paceline.settings.yaml_file import read_yaml
from paceline.speculation.cost import CostCurve
from paceline.speculation.fields import Checks, FieldError, every_error, known_names, require

DATA = Path(__file__).parent / "data"
MEASURED, DERIVED, PLANNING = "measured", "derived", "planning"
KINDS = (MEASURED, DERIVED, PLANNING)
"""What a figure is: published with a measurement, worked out from such, or a value to plan with until one is there."""
FURTHER = 0.4
"""Of what the children before it have missed, each further child has such a share: a planning value."""
ALPHA, TRACE = "alpha=", "trace="
Prices = Mapping[str, Mapping[str, float]]
"""Card to ``low``, ``mid`` and ``high``, dollars per hour."""


@dataclass(frozen=True)
class Card:
    """What its maker says; ``bf16_tflops`` dense."""

    name: str
    memory_gb: float
    bandwidth_gbps: float
    bf16_tflops: float


@dataclass(frozen=True)
class StepTable:
    """Milliseconds of a step by its rows. ``kinds``: what the figure of each number of rows is."""

    name: str
    card: str
    tensor_parallel: int
    model: str
    milliseconds: tuple[tuple[int, float], ...]
    kinds: tuple[str, ...]

    @property
    def curve(self) -> CostCurve:
        """In milliseconds, not seconds."""
        return CostCurve.measured(self.milliseconds)


@dataclass(frozen=True)
class Acceptance:
    """How often a drafter is right.

    ``alpha`` is the chance that its first child is the target's token, where the parent is accepted; each further child
    has a share ``further`` of what the ones before it have missed. ``runs``: lengths of accepted runs as recorded, one
    after the other; empty: every position is like any other.
    """

    alpha: float
    further: float = FURTHER
    runs: tuple[int, ...] = ()
    kind: str = PLANNING


@functools.cache
def cards() -> Mapping[str, Card]:
    rows = _rows("cards.csv")
    numbers = ("memory_gb", "bandwidth_gbps", "bf16_tflops")
    return MappingProxyType({row["card"]: Card(row["card"], *(float(row[key]) for key in numbers)) for row in rows})


@functools.cache
def step_tables() -> Mapping[str, StepTable]:
    found: dict[str, list[dict[str, str]]] = {}
    for row in _rows("step_times.csv"):
        found.setdefault(row["table"], []).append(row)
    return MappingProxyType({name: _step_table(rows) for name, rows in found.items()})


def step_table(name: str) -> CostCurve:
    """Milliseconds by rows."""
    tables = step_tables()
    require(name in tables, "step_time", name, f"one of the tables {known_names(tables, name)}")
    return tables[name].curve


def table_of(model: str, card: str, tensor_parallel: int = 1) -> str:
    """The name of the table for a model on a card; empty if there is none."""
    wanted = (model, card, tensor_parallel)
    tables = step_tables().values()
    return next((table.name for table in tables if (table.model, table.card, table.tensor_parallel) == wanted), "")


@functools.cache
def profiles() -> Mapping[str, Acceptance]:
    rows = _rows("acceptance.csv")
    return MappingProxyType(
        {row["profile"]: Acceptance(float(row["alpha"]), float(row["further"]), kind=row["kind"]) for row in rows}
    )


def acceptance(name: str, field: str = "acceptance") -> Acceptance:
    """A profile by its name, ``alpha=0.8``, or ``trace=FILE``, a file with lengths of accepted runs, one a line."""
    if name.startswith(ALPHA):
        return Acceptance(_alpha(field, name))
    if name.startswith(TRACE):
        return _recorded(field, Path(name.removeprefix(TRACE)))
    known = profiles()
    expected = f"{ALPHA}0 to 1, {TRACE}FILE, or one of the profiles {known_names(known, name)}"
    require(name in known, field, name, expected)
    return known[name]


def prices(file: Path | None = None) -> Prices:
    """Those of ``data/prices.yaml``, and in their place those of ``file``; every error at once."""
    own = _prices("prices", DATA / "prices.yaml")
    return own if file is None else MappingProxyType({**own, **_prices("prices", file)})


def priced_on(file: Path | None = None) -> str:
    """The date that ``data/prices.yaml`` says of its prices, and ``file`` of those that are in their place."""
    own = _priced_on("prices", DATA / "prices.yaml")
    return own if file is None else f"{own}; {file.name}: {_priced_on('prices', file)}"


def _priced_on(field: str, file: Path) -> str:
    data = read_yaml(field, file)
    return str((data.get("as_of") if isinstance(data, dict) else None) or "no date")


def _rows(name: str) -> list[dict[str, str]]:
    with (DATA / name).open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def _step_table(rows: list[dict[str, str]]) -> StepTable:
    first, ordered = rows[0], sorted(rows, key=lambda row: int(row["rows"]))
    points = tuple((int(row["rows"]), float(row["ms"])) for row in ordered)
    kinds = tuple(row["kind"] for row in ordered)
    return StepTable(first["table"], first["card"], int(first["tensor_parallel"]), first["model"], points, kinds)


def _alpha(field: str, text: str) -> float:
    try:
        alpha = float(text.removeprefix(ALPHA))
    except ValueError:
        alpha = math.nan
    require(0 <= alpha <= 1, field, text, f"{ALPHA} with a number from 0 to 1")
    return alpha


def _recorded(field: str, file: Path) -> Acceptance:
    """A miss follows each run, so of ``runs`` and as many misses alpha is the share of the accepted."""
    expected = f"{TRACE} with a file of whole numbers, 0 or more: lengths of accepted runs, one a line"
    try:
        runs = tuple(int(word) for word in file.read_text(encoding="utf-8").split())
    except (OSError, ValueError) as error:
        raise FieldError(field, str(file), expected) from error
    require(bool(runs) and min(runs) >= 0, field, str(file), expected)
    return Acceptance(sum(runs) / (sum(runs) + len(runs)), runs=runs, kind=MEASURED)


def _prices(field: str, file: Path) -> Prices:
    data = read_yaml(field, file)
    given: Any = data.get("cards") if isinstance(data, dict) else None
    found: dict[str, Mapping[str, float]] = {}
    with every_error() as checks:
        if checks.require(isinstance(given, dict), f"{field}.cards", given, "a mapping of cards to prices"):
            found = {card: _price(f"{field}.{card}", card, price, checks) for card, price in given.items()}
    return MappingProxyType(found)


def _price(field: str, card: object, price: Any, checks: Checks) -> Mapping[str, float]:
    checks.require(card in cards(), field, card, f"one of the cards {known_names(cards(), str(card))}")
    expected = f"a mapping with {', '.join(PRICES)}, dollars per hour"
    if not checks.require(isinstance(price, dict), field, price, expected):
        return {}
    for key in sorted(set(price) - {*PRICES, "source"}, key=str):
        checks.require(False, f"{field}.{key}", price[key], f"one of the keys {', '.join(PRICES)}, source")  # noqa: FBT003
    right = True
    for key in PRICES:
        amount = price.get(key)
        number = isinstance(amount, (int, float)) and not isinstance(amount, bool) and 0 <= amount < math.inf
        right &= checks.require(number, f"{field}.{key}", amount, "dollars per hour, 0 or more")
    if right:
        rising = price["low"] <= price["mid"] <= price["high"]
        checks.require(rising, field, [price[key] for key in PRICES], "low, mid and high in this order")
    return {key: float(price[key]) for key in PRICES} if right else {}
