"""Results in the order in which they are compared: by configuration, and along one key at a time."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from paceline.experiments.report.axes import Axis, Value, axis
from paceline.experiments.report.flips import Course, course, log_ratio
from paceline.experiments.results import Row, System
from paceline.experiments.rows import Results
from paceline.experiments.specification import MID, DrafterSpec, Experiment
from paceline.speculation.fields import require

RIVALS = (System.ALONE, System.COLOCATED)
APART = (System.TREES, System.OUTCOMES, System.PEARL, System.LOOKUPS)
SHORT = {
    System.ALONE: "alone", System.COLOCATED: "co-located", System.PEARL: "PEARL", System.OUTCOMES: "SSD",
    System.TREES: "trees", System.LOOKUPS: "look-ups",
}  # fmt: skip


@dataclass(frozen=True)
class Configuration:
    """The same workload, prices and machines to choose from, and what each system made of them."""

    settings: Mapping[str, Value]
    experiment: Experiment
    rows: Mapping[System, Row]

    def cost(self, system: System, price: str = MID) -> float:
        return self.rows[system].dollars_per_million(price)

    def cheapest(self, price: str = MID) -> System | None:
        """None: no system has goodput."""
        costs = {system: self.cost(system, price) for system in self.rows}
        best = min(costs, key=costs.__getitem__)
        return best if costs[best] < float("inf") else None

    def ratio(self, system: System, rival: System, price: str = MID) -> float:
        """Logarithm; below 0 where ``system`` is cheaper."""
        return log_ratio(self.cost(system, price), self.cost(rival, price))

    def has(self, *systems: System) -> bool:
        return all(system in self.rows for system in systems)


@dataclass(frozen=True)
class Series:
    """Configurations that differ in one key alone, in its order. ``settings``: the others."""

    axis: Axis
    settings: Mapping[str, Value]
    configurations: tuple[Configuration, ...]

    def course(self, system: System, rival: System, price: str = MID) -> Course:
        both = [one for one in self.configurations if one.has(system, rival)]
        places = [self.axis.number(one.settings[self.axis.key]) for one in both]
        return course(places, [one.ratio(system, rival, price) for one in both], wide=self.axis.wide)


@dataclass(frozen=True)
class Study:
    results: Results

    @cached_property
    def configurations(self) -> tuple[Configuration, ...]:
        found: dict[tuple[tuple[str, Value], ...], dict[System, Row]] = {}
        for row in self.results.rows:
            found.setdefault(tuple(sorted(row.settings.items())), {})[row.system] = row
        return tuple(
            Configuration(dict(key), self.results.configuration(next(iter(rows.values()))), rows)
            for key, rows in found.items()
        )

    @cached_property
    def axes(self) -> tuple[Axis, ...]:
        """Keys that take more than one value, in the order of the sweep."""
        keys = dict.fromkeys(key for row in self.results.rows for key in row.settings)
        every = [axis(key, (row.settings[key] for row in self.results.rows if key in row.settings)) for key in keys]
        return tuple(one for one in every if len(one.values) > 1)

    @cached_property
    def systems(self) -> tuple[System, ...]:
        return tuple(system for system in System if any(row.system is system for row in self.results.rows))

    @cached_property
    def subject(self) -> System | None:
        """What the questions are about: Paceline's trees, or, of results without them, the cheapest of those that draft
        apart. None: nothing drafts apart."""
        candidates = [system for system in APART if system in self.systems]
        if System.TREES in candidates or not candidates:
            return System.TREES if candidates else None
        return min(candidates, key=lambda system: statistics.median(self._costs(system)))

    def series(self, along: Axis) -> tuple[Series, ...]:
        """One for each combination of the other keys' values."""
        found: dict[tuple[tuple[str, Value], ...], list[Configuration]] = {}
        for one in self.configurations:
            rest = tuple((key, value) for key, value in one.settings.items() if key != along.key)
            found.setdefault(rest, []).append(one)
        return tuple(
            Series(along, dict(rest), tuple(sorted(these, key=lambda one: along.values.index(one.settings[along.key]))))
            for rest, these in found.items()
        )

    def scenarios(self) -> dict[tuple[tuple[str, Value], ...], tuple[Configuration, ...]]:
        """By what is given and not chosen: only configurations of one scenario are alternatives."""
        given = {one.key for one in self.axes if one.is_given}
        found: dict[tuple[tuple[str, Value], ...], list[Configuration]] = {}
        for one in self.configurations:
            key = tuple((name, value) for name, value in one.settings.items() if name in given)
            found.setdefault(key, []).append(one)
        return {key: tuple(these) for key, these in found.items()}

    def words(self, settings: Mapping[str, Value]) -> str:
        """Settings as a reader says them, in the order of the sweep."""
        return ", ".join(one.text(settings[one.key]) for one in self.axes if one.key in settings)

    def _costs(self, system: System) -> list[float]:
        return [one.cost(system) for one in self.configurations if system in one.rows]


def study(results: Results) -> Study:
    require(bool(results.rows), f"{results.experiment.name}: rows", [], "at least one row")
    return Study(results)


def paid_drafters(system: System, experiment: Experiment) -> dict[str, DrafterSpec]:
    """Pools that a system uses and pays for: all apart for trees, the look-ups alone, or the first with a model."""
    apart = {name: pool for name, pool in experiment.drafters.items() if not pool.colocated and pool.replicas > 0}
    models = {name: pool for name, pool in apart.items() if not looks_up(pool)}
    match system:
        case System.TREES:
            return apart
        case System.LOOKUPS:
            return {name: pool for name, pool in apart.items() if looks_up(pool)}
        case System.PEARL | System.OUTCOMES:
            return dict([*models.items(), *apart.items()][:1])
        case _:
            return {}


def looks_up(pool: DrafterSpec) -> bool:
    return pool.kind not in {"model", "rag"}


def target_words(experiment: Experiment) -> str:
    target = experiment.target
    return f"{target.model} on {target.tensor_parallel} × {target.card}"


def spread(items: Sequence[object], most: int) -> list[int]:
    """Indices of at most so many of them, the first and the last among them, evenly apart."""
    if len(items) <= most:
        return list(range(len(items)))
    return sorted({round(index * (len(items) - 1) / (most - 1)) for index in range(most)})
