"""From one experiment with a sweep to the configurations that are run."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import fields, replace
from typing import Any, get_type_hints

from paceline.experiments.specification import DrafterSpec, Experiment
from paceline.experiments.tables import table_of

Value = float | int | str
SECTIONS = ("target", "network", "workload", "slo")


def configurations(experiment: Experiment) -> Iterator[tuple[dict[str, Value], Experiment]]:
    """Every combination of the swept values, the last key's fastest, and the experiment with them: without a sweep,
    with the names of all step tables."""
    for values in itertools.product(*experiment.sweep.values()):
        settings = dict(zip(experiment.sweep, values, strict=True))
        yield settings, resolved(changed(experiment, settings))


def sweepable(experiment: Experiment) -> dict[str, Any]:
    """Every key that a sweep may name, and its type."""
    parts: dict[str, Any] = {name: getattr(experiment, name) for name in SECTIONS}
    parts |= {f"drafters.{name}": pool for name, pool in experiment.drafters.items()}
    keys: dict[str, Any] = {"seed": int}
    for prefix, part in parts.items():
        hints = get_type_hints(type(part))
        keys |= {f"{prefix}.{field.name}": hints[field.name] for field in fields(part)}
    return keys


def changed(experiment: Experiment, settings: Mapping[str, Value]) -> Experiment:
    """With other values at these keys, and nothing left to sweep."""
    experiment = replace(experiment, sweep={})
    for key, value in settings.items():
        section, _, name = key.partition(".")
        if section == "drafters":
            pool, _, name = name.rpartition(".")
            pools = {**experiment.drafters, pool: _with(experiment.drafters[pool], name, value)}
            experiment = replace(experiment, drafters=pools)
        elif name:
            experiment = _with(experiment, section, _with(getattr(experiment, section), name, value))
        else:
            experiment = _with(experiment, section, value)
    return experiment


def resolved(experiment: Experiment) -> Experiment:
    """With the names of the tables where a specification leaves them to model and card."""
    target = experiment.target
    table = target.step_time or table_of(target.model, target.card, target.tensor_parallel)
    pools = {name: _resolved(pool, experiment) for name, pool in experiment.drafters.items()}
    return replace(experiment, target=replace(target, step_time=table), drafters=pools)


def _resolved(pool: DrafterSpec, experiment: Experiment) -> DrafterSpec:
    card = pool.card or (experiment.target.card if pool.colocated else "")
    timed = pool.forward_ms > 0 or pool.step_time
    table = pool.step_time if timed else table_of(pool.model or pool.kind, card)
    return replace(pool, card=card, step_time=table)


def _with(part: Any, name: str, value: Any) -> Any:
    return replace(part, **{name: value})
