"""What each system of a comparison consists of and costs: read from a specification."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from paceline.experiments import tables
from paceline.experiments.results import System
from paceline.experiments.simulation.acceptance import Profile
from paceline.experiments.simulation.machines import Machines, Pool, Target, Wire
from paceline.experiments.simulation.rivals import Draft
from paceline.experiments.specification import PRICES, DrafterSpec, Experiment, TargetSpec
from paceline.experiments.tables import Prices

OURS = (System.TREES, System.LOOKUPS)
LOOKED_UP = "ngram"
"""Drafts where a specification names no look-up: on machines that are there anyway."""


@dataclass(frozen=True)
class Arrangement:
    """One system with its machines. ``draft``: a rival's drafters."""

    system: System
    machines: Machines
    draft: Draft | None = None
    dollars_per_hour: Mapping[str, float] = field(default_factory=dict, compare=False, hash=False)
    notes: Mapping[str, str] = field(default_factory=dict, compare=False, hash=False)


def arrange(experiment: Experiment, prices: Prices) -> dict[System, Arrangement]:
    """All systems of one configuration.

    Equal hardware: the same target's cards for all, and the specification's drafters for those that can use them: all
    of them for our trees, the first with a model for PEARL and the outcome cache, the look-ups for the last. Who does
    not use a drafter does not pay for it.
    """
    return {system: _arrange(system, experiment, prices) for system in System}


def _arrange(system: System, experiment: Experiment, prices: Prices) -> Arrangement:
    target, apart = _target(experiment.target), _apart(experiment)
    wire = Wire(**vars(experiment.network))
    paid, notes = dict[str, DrafterSpec](), dict[str, str]()
    machines, draft = Machines(target), None
    match system:
        case System.COLOCATED:
            name, spec, notes = _beside(experiment)
            draft = Draft(_pool(name, spec, experiment))
        case System.PEARL | System.OUTCOMES:
            name, spec = next(iter(apart.items()))
            paid, draft = {name: spec}, _served_by(spec, _pool(name, spec, experiment), experiment)
        case System.TREES:
            paid = apart
        case System.LOOKUPS:
            paid = {name: spec for name, spec in apart.items() if _looks_up(spec)}
            if not paid:
                paid, notes = {LOOKED_UP: _default_lookup()}, {"drafters": "assumed: none in the specification"}
    if system in OURS:
        machines = Machines(target, tuple(_pool(name, spec, experiment) for name, spec in paid.items()), wire)
    return Arrangement(system, machines, draft, _dollars(experiment.target, paid, prices), notes)


def _target(spec: TargetSpec) -> Target:
    curve = tables.step_table(spec.step_time)
    return Target(curve, spec.prefill_tokens_per_second, spec.context_ms_per_1k, replicas=spec.replicas)


def _looks_up(spec: DrafterSpec) -> bool:
    return spec.kind not in ("model", "rag")


def _apart(experiment: Experiment) -> dict[str, DrafterSpec]:
    """Drafters apart from the target's cards, those with models first; never none."""
    found = [(name, spec) for name, spec in experiment.drafters.items() if not spec.colocated and spec.replicas > 0]
    return dict(sorted(found, key=lambda item: _looks_up(item[1]))) or {LOOKED_UP: _default_lookup()}


def _default_lookup() -> DrafterSpec:
    return DrafterSpec(LOOKED_UP, LOOKED_UP, "CPU-EPYC-32vcpu", f"{LOOKED_UP}-cpu", cards_each=0.0)


def _beside(experiment: Experiment) -> tuple[str, DrafterSpec, dict[str, str]]:
    """The drafter on the target's own card: the specification's, or the first one apart moved there."""
    for name, spec in experiment.drafters.items():
        if spec.colocated and spec.replicas > 0:
            return name, spec, {}
    name, spec = next(iter(_apart(experiment).items()))
    if _looks_up(spec):
        return name, spec, {"drafter": "assumed: the look-up, on the target's host"}
    table = tables.table_of(spec.model, experiment.target.card)
    if not table:
        return name, spec, {"drafter": "assumed: as fast as where it is, there is no table for the target's card"}
    return name, replace(spec, step_time=table, forward_ms=0.0, per_session_ms=0.0), {"drafter": f"assumed: {table}"}


def _served_by(spec: DrafterSpec, pool: Pool, experiment: Experiment) -> Draft:
    return Draft(pool, experiment.target.replicas / spec.replicas, experiment.network.round_trip_ms)


def _pool(name: str, spec: DrafterSpec, experiment: Experiment) -> Pool:
    table = None if spec.forward_ms > 0 else tables.step_table(spec.step_time)
    profile = _profile(spec, experiment)
    return Pool(name, spec.kind, profile, spec.forward_ms, spec.per_session_ms, spec.replicas, table)


def _profile(spec: DrafterSpec, experiment: Experiment) -> Profile:
    """The drafter's own; a look-up's, where it has none, as a benchmark of such look-ups found; else the workload's."""
    name = spec.acceptance
    if not name and _looks_up(spec):
        usual = f"{spec.kind}/spec-bench"
        name = usual if usual in tables.profiles() else f"{LOOKED_UP}/spec-bench"
    found = tables.acceptance(name or experiment.workload.acceptance)
    return Profile.of(found.alpha, found.further, runs=found.runs)


def _dollars(target: TargetSpec, drafters: Mapping[str, DrafterSpec], prices: Prices) -> dict[str, float]:
    """Of an hour; who is idle is paid, too."""
    paid: list[tuple[TargetSpec | DrafterSpec, float]] = [(target, target.replicas * target.tensor_parallel)]
    paid += [(spec, spec.replicas * spec.cards_each) for spec in drafters.values()]
    return {
        price: sum(count * (one.price_per_hour or prices[one.card][price]) for one, count in paid if count)
        for price in PRICES
    }
