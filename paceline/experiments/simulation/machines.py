"""What a cluster consists of, in seconds: read from a specification, or made up in a test."""

from __future__ import annotations

import math
from dataclasses import dataclass

from paceline.experiments.simulation.acceptance import Profile
from paceline.speculation.cost import CostCurve


@dataclass(frozen=True)
class Target:
    """Verifiers of one kind. A step takes what its rows take by ``step_ms``, more for prompts and for context."""

    step_ms: CostCurve
    prefill_tokens_per_second: float = 10_000.0
    context_ms_per_1k: float = 0.0
    replicas: int = 1

    def seconds(self, rows: int, prompt_rows: int = 0, context: int = 0) -> float:
        """Of a step with so many rows of roots and nodes, prompts' rows, and tokens of context in all."""
        step = self.step_ms(rows) + self.context_ms_per_1k * context / 1024 if rows else 0.0
        return 1e-3 * step + prompt_rows / self.prefill_tokens_per_second

    @property
    def cost(self) -> CostCurve:
        """As a verifier measures it when it warms up: seconds by rows."""
        return CostCurve(self.step_ms.rows, tuple(1e-3 * ms for ms in self.step_ms.seconds))


@dataclass(frozen=True)
class Pool:
    """Drafters that guess alike. A forward takes what ``table_ms`` says of its rows, or, without a table,
    ``forward_ms`` for one session and ``per_session_ms`` for each further one."""

    name: str
    kind: str
    """``model``, or a look-up."""
    profile: Profile
    forward_ms: float = 0.0
    per_session_ms: float = 0.0
    replicas: int = 1
    table_ms: CostCurve | None = None

    @property
    def looks_up(self) -> bool:
        return self.kind not in ("model", "rag")

    def seconds(self, sessions: float, rows: float) -> float:
        """Of one growth for so many sessions, with so many rows in all."""
        if self.table_ms is not None:
            return 1e-3 * self.table_ms(math.ceil(rows))
        return 1e-3 * (self.forward_ms + self.per_session_ms * max(0.0, sessions - 1))


@dataclass(frozen=True)
class Wire:
    """Between a drafter and a verifier."""

    round_trip_ms: float = 0.5
    jitter_ms: float = 0.0
    bandwidth_mbps: float = 10_000.0


@dataclass(frozen=True)
class Machines:
    target: Target
    pools: tuple[Pool, ...] = ()
    wire: Wire = Wire()
