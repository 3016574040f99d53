"""Rows from JSON, every key, type and range checked."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from enum import Enum
from typing import Any, TypeVar

from paceline.cluster.reader import Reader
from paceline.experiments.reading import sections
from paceline.experiments.results import Instrument, Latency, Row, System
from paceline.experiments.specification import PRICES, Experiment
from paceline.experiments.sweeps import sweepable

EnumT = TypeVar("EnumT", bound=Enum)
PERCENTILES = ("p50", "p90", "p99")
DERIVED = "dollars_per_million"
"""Written for readers with other tools; worked out anew here."""


class RowReader(Reader):
    def experiment(self, given: Any) -> Experiment:
        """As a run wrote it: files that it names need not be there any more."""
        plain = self.mapping("experiment", given)
        found = sections(self, {key: value for key, value in plain.items() if key != "sweep"})
        keys, sweep = sweepable(found), {}
        for key, items in self.mapping("sweep", plain.get("sweep", {})).items():
            if key not in keys:
                self.note(f"sweep.{key}", items, "a key of the experiment")
                continue
            values = [
                self.value(f"sweep.{key}", item, keys[key], None) for item in self.sequence(f"sweep.{key}", items)
            ]
            sweep[key] = tuple(value for value in values if value is not None)
        return Experiment(**{**vars(found), "sweep": sweep})

    def rows(self, given: Any, experiment: Experiment) -> tuple[Row, ...]:
        """One for a system and its settings."""
        found, seen = [], set()
        for number, item in enumerate(self.sequence("rows", given)):
            noted = len(self.errors)
            row = self._row(f"rows[{number}]", self.mapping(f"rows[{number}]", item), experiment)
            identity = (row.system, tuple(sorted(row.settings.items())))
            if identity in seen and len(self.errors) == noted:
                self.note(f"rows[{number}]", f"{row.system.value}, {dict(row.settings)}", "no second row of the same")
            seen.add(identity)
            found.append(row)
        return tuple(found)

    def _row(self, key: str, given: Mapping[str, Any], experiment: Experiment) -> Row:
        top = self.known(Row, key, {name: value for name, value in given.items() if name != DERIVED})
        for name in ("experiment", "system", "instrument", "settings", "goodput", "dollars_per_hour"):
            if name not in top:
                self.note(f"{key}.{name}", None, "a value")
        return Row(
            experiment=self.value(f"{key}.experiment", top.get("experiment", ""), str, ""),
            system=self._named(f"{key}.system", top.get("system"), System),
            instrument=self._named(f"{key}.instrument", top.get("instrument"), Instrument),
            settings=self._settings(f"{key}.settings", top.get("settings", {}), experiment),
            tokens_per_second=self._number(f"{key}.tokens_per_second", top.get("tokens_per_second")),
            goodput=self._number(f"{key}.goodput", top.get("goodput", 0.0)),
            ttft_ms=Latency(**self.numbers(f"{key}.ttft_ms", top.get("ttft_ms"), PERCENTILES)),
            tpot_ms=Latency(**self.numbers(f"{key}.tpot_ms", top.get("tpot_ms"), PERCENTILES)),
            tokens_per_step=self._number(f"{key}.tokens_per_step", top.get("tokens_per_step")),
            requests=self.value(f"{key}.requests", top.get("requests"), int, 0),
            dollars_per_hour=self.numbers(f"{key}.dollars_per_hour", top.get("dollars_per_hour", {}), PRICES),
            notes=self._notes(f"{key}.notes", top.get("notes", {})),
        )

    def numbers(self, key: str, given: Any, names: Sequence[str]) -> dict[str, float]:
        """A mapping of exactly these names to numbers."""
        plain = self.mapping(key, given)
        for name in plain.keys() - set(names):
            self.note(f"{key}.{name}", plain[name], f"one of the keys {', '.join(names)}")
        return {name: self._number(f"{key}.{name}", plain.get(name)) for name in names}

    def _number(self, key: str, value: Any) -> float:
        right = type(value) in {int, float} and 0 <= value < math.inf
        if not right:
            self.note(key, value, "a number, 0 or more")
        return float(value) if right else 0.0

    def _named(self, key: str, value: Any, kind: type[EnumT]) -> EnumT:
        members = {member.value: member for member in kind}
        if not isinstance(value, str) or value not in members:
            self.note(key, value, f"one of {', '.join(members)}")
            return next(iter(kind))
        return members[value]

    def _settings(self, key: str, given: Any, experiment: Experiment) -> dict[str, float | int | str]:
        keys, found = sweepable(experiment), {}
        for name, value in self.mapping(key, given).items():
            if name not in keys:
                self.note(f"{key}.{name}", value, "a key of the experiment")
                continue
            right = self.value(f"{key}.{name}", value, keys[name], None)
            if right is not None:
                found[name] = right
        return found

    def _notes(self, key: str, given: Any) -> dict[str, float | int | str]:
        plain = self.mapping(key, given)
        for name, value in plain.items():
            if type(value) not in {int, float, str} or (isinstance(value, float) and not math.isfinite(value)):
                self.note(f"{key}.{name}", value, "a number or a text")
        return plain
