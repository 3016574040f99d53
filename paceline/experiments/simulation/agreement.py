"""``python -m paceline.experiments.simulation.agreement``: the fast path held against the full one, twelve times and
more, and how long both take."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from multiprocessing import get_context

from paceline.experiments.results import System
from paceline.experiments.simulation.acceptance import Profile
from paceline.experiments.simulation.machines import Machines, Pool, Target, Wire
from paceline.experiments.simulation.runs import Job, Outcome, run
from paceline.experiments.simulation.sweep import follow_parent
from paceline.experiments.simulation.systems import Arrangement
from paceline.experiments.specification import SloSpec, WorkloadSpec
from paceline.experiments.tables import step_table

TABLE = "llama-3.1-70b-h200-tp2"
REQUESTS, OUTPUT_TOKENS, SEED = 150, 128, 1


@dataclass(frozen=True)
class Case:
    alpha: float
    forward_ms: float = 4.5
    round_trip_ms: float = 1.0
    sessions: int = 1
    rate: float = 0.0
    verifiers: int = 1
    kind: str = "model"

    @property
    def jobs(self) -> tuple[Job, Job]:
        """Full and fast."""
        pool = Pool("small", self.kind, Profile.of(self.alpha), self.forward_ms, 0.05, 1)
        machines = Machines(Target(step_table(TABLE), replicas=self.verifiers), (pool,), Wire(self.round_trip_ms))
        workload = WorkloadSpec(
            requests=REQUESTS, sessions=self.sessions, requests_per_second=self.rate, output_tokens=OUTPUT_TOKENS
        )
        full = Job(Arrangement(System.TREES, machines), workload, SloSpec(), SEED)
        return full, replace(full, fast=True)


CASES = (
    Case(0.7), Case(0.82), Case(0.92), Case(0.82, forward_ms=2.0), Case(0.82, forward_ms=10.0),
    Case(0.82, round_trip_ms=20.0), Case(0.82, sessions=4), Case(0.92, sessions=8), Case(0.7, sessions=16),
    Case(0.82, rate=1.0), Case(0.82, rate=3.0), Case(0.82, sessions=8, verifiers=2),
    Case(0.82, rate=4.0, verifiers=2), Case(0.43, forward_ms=0.2, kind="ngram"),
)  # fmt: skip


def main(processes: int) -> None:
    errors, seconds = list[float](), [0.0, 0.0]
    with get_context("spawn").Pool(processes, follow_parent) as pool:
        results = pool.imap(_timed, [job for case in CASES for job in case.jobs])
        for case in CASES:
            full, fast = next(results), next(results)
            errors.append(_show(case, full[0], fast[0]))
            seconds = [seconds[0] + full[1], seconds[1] + fast[1]]
    sys.stdout.write(
        f"RESULT cases={len(CASES)} worst_percent={max(map(abs, errors)):.2f}"
        f" mean_percent={sum(map(abs, errors)) / len(errors):.2f}"
        f" full_cpu_seconds={seconds[0]:.0f} fast_cpu_seconds={seconds[1]:.0f}\n"
    )


def _timed(job: Job) -> tuple[Outcome, float]:
    started = time.process_time()
    return run(job), time.process_time() - started


def _show(case: Case, before: Outcome, after: Outcome) -> float:
    """Prints a case; by how many percent the fast path's tokens/s are off."""
    error = 100 * (after.tokens_per_second / before.tokens_per_second - 1)
    sys.stdout.write(
        f"{case}: tokens/s {before.tokens_per_second:.1f} {after.tokens_per_second:.1f} ({error:+.2f} %),"
        f" TPOT p50 {before.tpot_ms.p50:.2f} {after.tpot_ms.p50:.2f} ms,"
        f" TTFT p50 {before.ttft_ms.p50:.0f} {after.ttft_ms.p50:.0f} ms\n"
    )
    sys.stdout.flush()
    return error


def _processes(arguments: Sequence[str]) -> int:
    return int(arguments[0]) if arguments else os.cpu_count() or 1


if __name__ == "__main__":
    main(_processes(sys.argv[1:]))
