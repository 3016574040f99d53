"""``bench chaos``: whatever dies, clients see one unbroken, correct text.

Two gateways, two verifiers, three drafters and a Redis, all processes of this machine, under continuous requests:
greedy and sampled, some with penalties, some held to a grammar, some cancelled. Workers are killed, stopped and
continued one after the other, each while sessions run and the next once all is well again; then every service is
restarted in order. Every text must be the one
that an undisturbed fleet gave before, and nothing may be left of it afterwards.
"""

from __future__ import annotations

import random
import statistics
from dataclasses import asdict, dataclass
from pathlib import Path

from rich.progress import track

from paceline.bench.chaos.fleet import ChaosFleet
from paceline.bench.chaos.load import Load, Tally, near_tie
from paceline.bench.chaos.requests import make_requests, undisturbed
from paceline.bench.chaos.schedule import Fault, schedule
from paceline.bench.report import Report
from paceline.errors import PacelineError
from paceline.process import run_async
from paceline.settings import setting
from paceline.speculation.fields import require

QUICK_SHARE = 3
COLUMNS = ("what", "worker", "longest silence s", "all well again after s")


@dataclass(frozen=True)
class ChaosBench:
    """Texts, losses and leaks of a fleet whose workers are killed under load."""

    drafter_kills: int = setting("drafters that are killed", 10)
    verifier_kills: int = setting("verifiers that are killed", 8)
    gateway_kills: int = setting("gateways that are killed", 4)
    redis_stops: int = setting("times that Redis is stopped", 2)
    restarts: bool = setting("at the end every service is restarted in order", True)
    clients: int = setting("requests at a time", 6)
    prompts: int = setting("prompts, each asked for in eleven ways", 10)
    tokens: int = setting("tokens of an answer, at most", 120)
    numerics: str = setting("deterministic, or standard: then texts may differ by near-ties", "deterministic")
    seed: int = setting("of the requests and of what fails when", 1)
    quick: bool = setting("a third of it", False)
    json: Path | None = setting("also write every row to this file", None)

    def __post_init__(self) -> None:
        for field in ("clients", "prompts", "tokens"):
            require(getattr(self, field) >= 1, field, getattr(self, field), "at least 1")
        for field in ("drafter_kills", "verifier_kills", "gateway_kills", "redis_stops"):
            require(getattr(self, field) >= 0, field, getattr(self, field), "0 or more")
        known = self.numerics in ("standard", "deterministic")
        require(known, "numerics", self.numerics, "standard or deterministic")

    @property
    def faults(self) -> list[Fault]:
        """What fails, in order: kills, a stop of each kind of worker, and stops of Redis."""
        share = QUICK_SHARE if self.quick else 1
        kills = {"drafter": self.drafter_kills, "verifier": self.verifier_kills, "gateway": self.gateway_kills}
        wanted = {kind: -(-count // share) for kind, count in kills.items()}
        return schedule(wanted, -(-self.redis_stops // share), random.Random(self.seed), restarts=self.restarts)


def run(bench: ChaosBench) -> None:
    report = Report("chaos", asdict(bench))
    report.parameters.pop("json")
    tally = run_async(_measure(bench, report))
    recoveries = [row["recovery_s"] for row in report.rows if row["fault"].startswith("kill")]
    of_verifiers = [row["recovery_s"] for row in report.select(fault="kill verifier")]
    lines = [
        [row["fault"], row["worker"], f"{row['recovery_s']:.2f}", f"{row['serving_s']:.1f}"] for row in report.rows
    ]
    report.table("What failed, and how long no session had a token", COLUMNS, lines)
    report.finish(
        bench.json,
        requests=tally.requests,
        **{f"{kind}_kills": len(report.select(fault=f"kill {kind}")) for kind in ("drafter", "verifier", "gateway")},
        mismatches=tally.mismatches,
        duplicated=tally.duplicated,
        lost=tally.lost,
        leaks=len(tally.leaks),
        recovery_median_s=statistics.median(recoveries),
        recovery_max_s=max(recoveries),
        verifier_recovery_median_s=statistics.median(of_verifiers) if of_verifiers else 0.0,
        restarts=sum(row["fault"].startswith("restart") for row in report.rows),
        near_ties=tally.near_ties,
        resumed=tally.resumed,
        cancelled=tally.cancelled,
    )
    for said in (*tally.complaints, *tally.leaks):
        report.console.print(said)
    if tally.mismatches or tally.duplicated or tally.lost or tally.leaks:
        raise PacelineError("a text was not what it should have been, or something was left behind")


async def _measure(bench: ChaosBench, report: Report) -> Tally:
    requests = make_requests(bench.tokens, bench.seed, bench.prompts)
    async with ChaosFleet(bench.numerics) as fleet:
        texts = await undisturbed(fleet.gateway_addresses, requests, bench.clients)
        before, same = await fleet.held(), near_tie if bench.numerics == "standard" else None
        async with Load(fleet.gateway_addresses, requests, texts, bench.clients, bench.seed, same) as load:
            for fault in track(bench.faults, console=report.console, transient=True):
                report.add(**await fleet.suffer(fault, load))
        load.tally.leaks += await fleet.leaks(before)
        return load.tally
