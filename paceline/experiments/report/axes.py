"""What a sweep varies, in words and as numbers."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from paceline.experiments.tables import ALPHA, TRACE, acceptance
from paceline.speculation.fields import FieldError

Value = float | int | str
_NAMES = {
    "network.round_trip_ms": ("round trip", "ms"),
    "workload.sessions": ("sessions", ""),
    "workload.requests_per_second": ("load", "requests/s"),
    "workload.acceptance": ("acceptance", ""),
    "workload.prompt_tokens": ("prompt", "tokens"),
    "workload.output_tokens": ("answer", "tokens"),
    "target.replicas": ("targets", ""),
    "target.card": ("target's card", ""),
}
_OF_DRAFTERS = {
    "card": "card of {}",
    "replicas": "drafters {}",
    "acceptance": "acceptance of {}",
    "model": "model of {}",
}
_TAGS = {"workload.requests_per_second": "req/s", "workload.sessions": "sessions", "target.replicas": "targets"}
_LOADS = ("workload.sessions", "workload.requests_per_second")
_GIVEN = ("workload", "network", "slo", "seed")
_SPACE = "\N{NO-BREAK SPACE}"
_WIDE = 8.0
"""From the least to the most, and ticks are at equal ratios."""


@dataclass(frozen=True)
class Axis:
    """One swept key. ``numbers``, one for each value and rising; none: values that have no order."""

    key: str
    values: tuple[Value, ...]
    numbers: tuple[float, ...] = ()

    @property
    def label(self) -> str:
        section, _, rest = self.key.partition(".")
        pool, _, name = rest.rpartition(".")
        if section == "drafters":
            return _OF_DRAFTERS.get(name, f"{name.replace('_', ' ')} of {{}}").format(pool)
        return _NAMES.get(self.key, (self.key.replace("_", " "), ""))[0]

    @property
    def unit(self) -> str:
        if self.is_acceptance:
            return "α"
        return _NAMES.get(self.key, ("", "ms" if self.key.endswith("_ms") else ""))[1]

    @property
    def title(self) -> str:
        return f"{self.label}, {self.unit}" if self.unit else self.label

    @property
    def is_acceptance(self) -> bool:
        return self.key.endswith(".acceptance")

    @property
    def is_load(self) -> bool:
        """An operator chooses it, and its points belong on one front."""
        return self.key in _LOADS

    @property
    def is_given(self) -> bool:
        """Not an operator's choice: what differs in it is not compared."""
        return (self.key.startswith(_GIVEN) or self.is_acceptance) and not self.is_load

    @property
    def wide(self) -> bool:
        return bool(self.numbers) and self.numbers[0] > 0 and self.numbers[-1] / self.numbers[0] >= _WIDE

    def short(self, value: Value) -> str:
        """Without the label."""
        if not self.is_acceptance:
            return value if isinstance(value, str) else f"{value:g}"
        alpha = _alpha(str(value))
        known = f"α{_SPACE}{alpha:.3g}" if math.isfinite(alpha) else f"α{_SPACE}unknown"
        if str(value).startswith(ALPHA):
            return known
        name = str(value).rpartition("/")[2] if str(value).startswith(TRACE) else value
        return f"{name} ({known})"

    def tag(self, value: Value) -> str:
        """Beside a mark."""
        if self.is_acceptance:
            return f"α {_alpha(str(value)):.3g}"
        unit = _TAGS.get(self.key, self.unit)
        return f"{self.short(value)} {unit.removesuffix('s') if value == 1 else unit}".rstrip()

    def text(self, value: Value) -> str:
        unit = f" {self.unit}" if self.unit and not self.is_acceptance else ""
        return f"{self.label} {self.short(value)}{unit}"

    def number(self, value: Value) -> float:
        return self.numbers[self.values.index(value)]

    def amount(self, number: float) -> str:
        """A place between values."""
        if self.is_acceptance:
            return f"α {number:.3f}".rstrip("0")
        return f"{number:.3g}" + (f" {self.unit}" if self.unit else "")


def axis(key: str, values: Iterable[Value]) -> Axis:
    """Of the values that occur; rising if they are numbers, or rates of acceptance."""
    found = tuple(dict.fromkeys(values))
    if key.endswith(".acceptance"):
        numbers = {value: _alpha(str(value)) for value in found}
    else:
        numbers = {value: float(value) for value in found if not isinstance(value, str)}
    ordered = len(numbers) == len(found) == len(set(numbers.values())) and all(map(math.isfinite, numbers.values()))
    if not ordered or key == "seed":
        return Axis(key, found)
    rising = tuple(sorted(found, key=numbers.__getitem__))
    return Axis(key, rising, tuple(numbers[value] for value in rising))


def _alpha(name: str) -> float:
    """NaN where a recorded trace is not here any more."""
    try:
        return acceptance(name).alpha
    except FieldError:
        return math.nan
