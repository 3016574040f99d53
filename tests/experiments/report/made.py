"""Rows whose answers are known, since they are made for it."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from paceline.experiments.report.study import Study, study
from paceline.experiments.results import Instrument, Latency, Row, System
from paceline.experiments.rows import Results
from paceline.experiments.specification import PRICES, DrafterSpec, Experiment, TargetSpec, WorkloadSpec
from paceline.experiments.sweeps import configurations

TARGET = {"low": 2.0, "mid": 4.0, "high": 8.0}
"""Of its one card."""
CARD = {"low": 0.5, "mid": 1.0, "high": 2.0}
Goodput = Callable[[System, Mapping[str, float | int | str]], float]
EXPERIMENT = Experiment(
    "made",
    TargetSpec("Llama-3.1-70B", "H200", 1),
    drafters={"far": DrafterSpec(model="Llama-3.2-1B", card="L4"), "beside": DrafterSpec(colocated=True)},
    workload=WorkloadSpec(acceptance="mid"),
)
BY_TRIP = {"network.round_trip_ms": (1.0, 2.0, 4.0, 8.0)}


def results(
    goodput: Goodput, sweep: Mapping[str, tuple[float | int | str, ...]] = BY_TRIP, name: str = "made"
) -> Results:
    """``goodput`` says what each system brings; who drafts apart pays for an L4."""
    experiment = Experiment(**{**vars(EXPERIMENT), "sweep": dict(sweep), "name": name})
    rows = [
        row(name, system, settings, goodput(system, settings))
        for settings, _ in configurations(experiment)
        for system in System
        if system is not System.LOOKUPS
    ]
    return Results(experiment, tuple(rows), {"H200": TARGET, "L4": CARD}, "2026-11-22", {"a table": "planning"})


def made(goodput: Goodput, sweep: Mapping[str, tuple[float | int | str, ...]] = BY_TRIP) -> Study:
    return study(results(goodput, sweep))


def row(
    name: str, system: System, settings: Mapping[str, float | int | str], goodput: float, *, free: bool = False
) -> Row:
    apart = not free and system not in {System.ALONE, System.COLOCATED}
    dollars = {price: TARGET[price] + (CARD[price] if apart else 0.0) for price in PRICES}
    latency = Latency(20.0, 25.0, 30.0)
    return Row(name, system, Instrument.SIMULATED, settings, goodput, goodput, latency, latency, 2.0, 10, dollars)
