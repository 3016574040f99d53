"""One system under one workload: run, and what came of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from paceline.experiments.results import Latency, System
from paceline.experiments.simulation.aggregated import Aggregated
from paceline.experiments.simulation.machines import Target
from paceline.experiments.simulation.rivals import Alone, Colocated, Draft, Outcomes, Pearl, Rival
from paceline.experiments.simulation.rounds import Rounds
from paceline.experiments.simulation.services import World
from paceline.experiments.simulation.systems import OURS, Arrangement
from paceline.experiments.simulation.workload import Served, latency, requests
from paceline.experiments.specification import SloSpec, WorkloadSpec

if TYPE_CHECKING:
    from collections.abc import Sequence


@dataclass(frozen=True)
class Job:
    """What is run once, however many configurations it stands for: prices and other systems' machines do not matter."""

    arrangement: Arrangement
    workload: WorkloadSpec
    slo: SloSpec
    seed: int
    fast: bool = False


@dataclass(frozen=True)
class Outcome:
    """Of a job."""

    tokens_per_second: float
    goodput: float
    ttft_ms: Latency
    tpot_ms: Latency
    tokens_per_step: float
    requests: int
    within_slo: float
    """Share of the requests."""
    seconds: float
    """From the first request to the last token."""
    rows_per_step: float = 0.0
    verifiers_busy: float = 0.0
    drafters_busy: float = 0.0
    """Shares of that time."""


def run(job: Job) -> Outcome:
    """Deterministic: the same job gives the same outcome in every process."""
    workload, arrangement = job.workload, job.arrangement
    asked = requests(workload, job.seed)
    sessions = 0 if workload.requests_per_second > 0 else workload.sessions
    if arrangement.system not in OURS:
        fleet = Rounds(
            arrangement.machines.target, arrangement.draft.profile if arrangement.draft else None, _rival(arrangement)
        )
        served = fleet.serve(asked, sessions)
        rounds = sum(machine.rounds for machine in fleet.machines)
        return _outcome(served, job.slo, rows_per_step=sum(machine.rows for machine in fleet.machines) / max(1, rounds))
    if job.fast:
        return _outcome(Aggregated(arrangement.machines, workload, seed=job.seed).serve(asked, sessions), job.slo)
    world = World(arrangement.machines, seed=job.seed)
    served = world.serve(asked, sessions)
    span = _span(served)
    steps = sum(verifier.steps for verifier in world.verifiers)
    return _outcome(
        served,
        job.slo,
        rows_per_step=sum(verifier.rows for verifier in world.verifiers) / max(1, steps),
        verifiers_busy=sum(verifier.busy_seconds for verifier in world.verifiers) / (span * len(world.verifiers)),
        drafters_busy=sum(drafter.busy_seconds for drafter in world.drafters) / (span * max(1, len(world.drafters))),
    )


def _rival(arrangement: Arrangement) -> Callable[[], Rival]:
    target, draft = arrangement.machines.target, arrangement.draft
    if draft is None:
        return Alone
    make: dict[System, Callable[[Target, Draft], Rival]] = {
        System.COLOCATED: Colocated,
        System.PEARL: Pearl,
        System.OUTCOMES: Outcomes,
    }
    return lambda: make[arrangement.system](target, draft)


def _span(served: Sequence[Served]) -> float:
    return max(one.last for one in served) - min(one.arrived for one in served)


def _outcome(served: Sequence[Served], slo: SloSpec, **more: float) -> Outcome:
    span, tokens = _span(served), sum(one.tokens for one in served)
    good = [one for one in served if one.within(slo)]
    steps = sum(one.steps for one in served)
    return Outcome(
        tokens_per_second=tokens / span,
        goodput=sum(one.tokens for one in good) / span,
        ttft_ms=latency([one.ttft_ms for one in served]),
        tpot_ms=latency([one.tpot_ms for one in served]),
        tokens_per_step=(tokens - len(served)) / steps if steps else 1.0,
        requests=len(served),
        within_slo=len(good) / len(served),
        seconds=span,
        **more,
    )
