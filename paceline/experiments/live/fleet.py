"""From one system of a configuration to a fleet of processes whose forwards and wires are emulated."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from paceline.cluster.topology import DrafterPool, GatewayPool, ModelRoute, Topology, VerifierPool
from paceline.experiments.simulation.acceptance import Profile
from paceline.experiments.simulation.machines import Machines, Pool, Target, Wire
from paceline.speculation.cost import CostCurve
from paceline.synthetic import TEXT

LOOPBACK_MS = 0.4
"""Round trip of gRPC on this machine (DESIGN §8): it is part of the round trip that a specification names."""
MODEL, VERIFIER = "emulated", "target"


def topology(machines: Machines, checkpoint: Path, directory: Path) -> Topology:
    """``checkpoint``: of a target that costs little beside its emulated time. What workers are to read is written to
    ``directory``."""
    verifiers = VerifierPool(
        replicas=machines.target.replicas,
        price_per_hour=0.0,
        emulate_step_time=target_pace(machines.target),
        emulate_acceptance=TEXT,
    )
    drafters = {pool.name: _drafters(pool, machines.wire, directory) for pool in machines.pools}
    return Topology(
        models=(ModelRoute(MODEL, str(checkpoint), VERIFIER, tuple(drafters)),),
        verifiers={VERIFIER: verifiers},
        drafters=drafters,
        gateway=GatewayPool(http=-1),
    )


def target_pace(target: Target) -> str:
    """As ``--emulate-step-time`` takes it."""
    words = [*_table(target.step_ms), f"prompt_token={_ms(1e3 / target.prefill_tokens_per_second)}"]
    if target.context_ms_per_1k:
        words.append(f"context={_ms(target.context_ms_per_1k)}")
    return ",".join(words)


def drafter_pace(pool: Pool) -> str:
    if pool.table_ms is not None:
        return ",".join(_table(pool.table_ms))
    more = f",per_session={_ms(pool.per_session_ms)}" if pool.per_session_ms else ""
    return f"{_ms(pool.forward_ms)}{more}"


def wire_of(wire: Wire) -> str:
    """As ``--emulate-link`` takes it; what gRPC takes by itself is not added to it."""
    rtt = max(0.0, wire.round_trip_ms - LOOPBACK_MS)
    return f"rtt={_ms(rtt)},jitter={_ms(wire.jitter_ms)},bandwidth={wire.bandwidth_mbps:.6f}mbps"


def acceptance_of(profile: Profile, file: Path) -> str:
    """As a drafter's ``--emulate-acceptance`` takes it; recorded runs are written to ``file``."""
    missed = 1 - profile.alpha
    further = profile.ranks[1] / missed if len(profile.ranks) > 1 and missed > 0 else 0.0
    if not profile.runs:
        return f"{profile.alpha:.9f},further={further:.9f}"
    file.write_text("".join(f"{run}\n" for run in profile.runs), encoding="utf-8")
    return f"trace={file},further={further:.9f}"


def _drafters(pool: Pool, wire: Wire, directory: Path) -> DrafterPool:
    return DrafterPool(
        kind=pool.kind,
        replicas=pool.replicas,
        emulate_step_time=drafter_pace(pool),
        emulate_acceptance=acceptance_of(pool.profile, directory / f"{pool.name}.runs"),
        emulate_link=wire_of(wire),
    )


def _table(curve: CostCurve) -> Sequence[str]:
    first, *more = zip(curve.rows, curve.seconds, strict=True)
    return [_ms(first[1]), *(f"{rows}={_ms(ms)}" for rows, ms in more)]


def _ms(milliseconds: float) -> str:
    return f"{milliseconds:.6f}ms"
