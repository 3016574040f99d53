"""Small clusters with round numbers."""

from __future__ import annotations

from collections.abc import Sequence

from paceline.experiments.simulation.acceptance import Profile
from paceline.experiments.simulation.machines import Machines, Pool, Target, Wire
from paceline.experiments.simulation.rivals import Draft
from paceline.experiments.simulation.workload import Served
from paceline.speculation.cost import CostCurve

STEP_MS, DRAFT_MS = 20.0, 4.0
CURVE = CostCurve((1, 64, 1024), (STEP_MS, STEP_MS, 8 * STEP_MS))
TARGET = Target(CURVE)


def model(alpha: float, forward_ms: float = DRAFT_MS, replicas: int = 1, further: float = 0.4) -> Pool:
    return Pool("small", "model", Profile.of(alpha, further), forward_ms, 0.02, replicas)


def machines(*pools: Pool, round_trip_ms: float = 1.0, replicas: int = 1) -> Machines:
    return Machines(Target(CURVE, replicas=replicas), pools, Wire(round_trip_ms))


def draft(alpha: float, forward_ms: float = DRAFT_MS, round_trip_ms: float = 0.0) -> Draft:
    return Draft(model(alpha, forward_ms), 1.0, round_trip_ms)


def speed(served: Sequence[Served]) -> float:
    """Tokens per second of all."""
    return sum(one.tokens for one in served) / max(one.last for one in served)


def decoding_seconds(served: Sequence[Served]) -> float:
    return sum(one.last - one.first for one in served)


def tokens_per_step(served: Sequence[Served]) -> float:
    return sum(one.tokens - 1 for one in served) / sum(one.steps for one in served)
