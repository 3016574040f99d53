"""Experiments from YAML, refused as a whole when anything in them is wrong: one error for every mistake."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from paceline.cluster.reader import Reader
from paceline.experiments.checks import misfits, out_of_range
from paceline.experiments.specification import (
    DrafterSpec,
    Experiment,
    NetworkSpec,
    SloSpec,
    TargetSpec,
    WorkloadSpec,
)
from paceline.experiments.sweeps import changed, configurations, sweepable
from paceline.experiments.tables import TRACE
from paceline.settings.yaml_file import read_yaml
from paceline.speculation.fields import FieldError, FieldErrors, known_names


def read_experiment(path: Path) -> Experiment:
    """Reads and checks a specification. Files that it names are looked for beside it."""
    return parse_experiment(read_yaml("experiment", path), path.parent)


def parse_experiment(data: Any, beside: Path) -> Experiment:
    """Checks every key, type and range, that all fits together, and the same of every combination that is swept."""
    reader = Reader()
    experiment = _located(sections(reader, data), beside)
    sweep, wrong = _sweep(experiment, data.get("sweep") if isinstance(data, dict) else None, beside)
    errors = _with(reader.errors, out_of_range(experiment))
    errors = _with([*errors, *wrong], _all_misfits(replace(experiment, sweep=sweep)))
    if errors:
        raise errors[0] if len(errors) == 1 else FieldErrors(errors)
    return replace(experiment, sweep=sweep)


def _with(noted: Sequence[FieldError], further: Iterable[FieldError]) -> list[FieldError]:
    """All, but for those that follow from errors which are noted already, of the same value or of its whole section."""
    fields = {error.field for error in noted}
    return [*noted, *(error for error in further if not {error.field, error.field.rpartition(".")[0]} & fields)]


def sections(reader: Reader, data: Any) -> Experiment:
    """What can be read, but for the sweep; the rest has its default or an empty value, and is noted."""
    top = reader.known(Experiment, "", reader.mapping("experiment", data))
    for name in ("name", "target"):
        if name not in top and isinstance(data, dict):
            reader.note(name, None, "a value")
    plain = {"about": "", "seed": 1, "prices": ""}
    return Experiment(
        name=reader.value("name", top.get("name", ""), str, ""),
        target=reader.part(TargetSpec, "target", top["target"]) if "target" in top else TargetSpec("", ""),
        drafters=reader.parts(DrafterSpec, "drafters", top.get("drafters") or {}),
        network=reader.part(NetworkSpec, "network", top.get("network") or {}),
        workload=reader.part(WorkloadSpec, "workload", top.get("workload") or {}),
        slo=reader.part(SloSpec, "slo", top.get("slo") or {}),
        **{key: reader.value(key, top.get(key, default), type(default), default) for key, default in plain.items()},
    )


def _sweep(experiment: Experiment, given: Any, beside: Path) -> tuple[dict[str, tuple[Any, ...]], list[FieldError]]:
    """What of a sweep is right, and every error."""
    reader, keys = Reader(), sweepable(experiment)
    sweep: dict[str, tuple[Any, ...]] = {}
    for key, items in reader.mapping("sweep", given or {}).items():
        if key not in keys:
            reader.note(f"sweep.{key}", items, f"one of the keys {known_names(keys, key)}")
            continue
        values = list(_values(reader, f"sweep.{key}", items, keys[key]))
        if any(values.count(value) > 1 for value in values):
            reader.note(f"sweep.{key}", items, "values that differ")
        sweep[key] = tuple(_beside(value, beside) for value in values if _in_range(reader, experiment, key, value))
    return {key: values for key, values in sweep.items() if values}, reader.errors


def _values(reader: Reader, key: str, items: Any, hint: Any) -> Iterator[Any]:
    """Those that are of the type."""
    if items == []:
        reader.note(key, items, "at least one value")
    for item in reader.sequence(key, items):
        value = reader.value(key, item, hint, None)
        if value is not None:
            yield value


def _in_range(reader: Reader, experiment: Experiment, key: str, value: Any) -> bool:
    wrong = [error for error in out_of_range(changed(experiment, {key: value})) if error.field == key]
    for error in wrong:
        reader.note(f"sweep.{key}", value, error.expected)
    return not wrong


def _all_misfits(experiment: Experiment) -> Iterator[FieldError]:
    """Of every combination, each once."""
    seen: set[tuple[str, str]] = set()
    for _, configuration in configurations(experiment):
        for error in misfits(configuration):
            if (error.field, str(error)) not in seen:
                seen.add((error.field, str(error)))
                yield error


def _located(experiment: Experiment, beside: Path) -> Experiment:
    """Paths of a specification are relative to its own folder."""
    workload = replace(experiment.workload, acceptance=_beside(experiment.workload.acceptance, beside))
    pools = {
        name: replace(pool, acceptance=_beside(pool.acceptance, beside)) for name, pool in experiment.drafters.items()
    }
    prices = str(beside / experiment.prices) if experiment.prices else ""
    return replace(experiment, workload=workload, drafters=pools, prices=prices)


def _beside(value: Any, folder: Path) -> Any:
    if isinstance(value, str) and value.startswith(TRACE):
        return f"{TRACE}{folder / value.removeprefix(TRACE)}"
    return value
