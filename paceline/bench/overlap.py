"""``bench overlap``: four policies over a grid of clusters, in virtual time and, with ``--real``, six cells for real.

Draft forwards take 4 ms; the target's step, the round trip as a share of it, and the sessions vary. The rivals' chain
and tree lengths are tuned in every cell. In virtual time the services' own logic runs on a clock of events
(``bench/virtual.py``); real cells are a fleet of processes with emulated step times and link.
"""

from __future__ import annotations

import re
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from rich.progress import track

from drafter_service.drafters.model import ModelDrafter
from paceline.bench.decode import encoded_prompts
from paceline.bench.report import Report, Row
from paceline.bench.virtual import Times, VirtualCluster
from paceline.client import GatewayClient
from paceline.cluster.local import LocalCluster
from paceline.cluster.topology import DrafterPool, ModelRoute, Topology, VerifierPool
from paceline.embedded import DRAFT, TARGET
from paceline.engine.runner import ModelRunner
from paceline.messages import Generate, OpenSession
from paceline.process import run_async
from paceline.settings import setting
from paceline.speculation.noise import noise_key
from paceline.speculation.policy import Mode, Shape, SpeculationParameters
from paceline.speculation.sampling import SamplingParameters

DRAFT_SECONDS = 0.004
STEPS = (0.02, 0.04, 0.08)
RTT_SHARES = (0.0, 0.25, 0.5, 1.0)
SESSIONS = (1, 4, 16)
REAL_CELLS = ((0.02, 0.0), (0.02, 0.5), (0.04, 0.0), (0.04, 0.25), (0.04, 0.5), (0.04, 1.0))
TEMPERATURES = (0.0, 0.8)
HEADLINE = 0.8
SEED, PROMPTS = 5, 4
MOST_LATE = 0.01
TREE, LOCKSTEP_TREE, LOCKSTEP_CHAIN, CHAIN = "overlapped tree", "lockstep tree", "lockstep chain", "overlapped chain"
BASELINES = (LOCKSTEP_CHAIN, LOCKSTEP_TREE, CHAIN)


def _chain(mode: Mode, length: int) -> SpeculationParameters:
    return SpeculationParameters(mode, Shape.CHAIN, max_draft_nodes=length, draft_depth=length)


POLICIES: dict[str, tuple[SpeculationParameters, ...]] = {
    LOCKSTEP_CHAIN: tuple(_chain(Mode.LOCKSTEP, length) for length in (2, 3, 4, 6)),
    LOCKSTEP_TREE: tuple(
        SpeculationParameters(Mode.LOCKSTEP, max_draft_nodes=64, draft_depth=depth) for depth in (2, 3, 4, 6)
    ),
    CHAIN: tuple(_chain(Mode.OVERLAPPED, length) for length in (4, 8, 16)),
    TREE: (SpeculationParameters(Mode.OVERLAPPED, max_draft_nodes=64, draft_depth=16),),
    "off": (SpeculationParameters(Mode.OFF),),
}


@dataclass(frozen=True)
class OverlapBench:
    """Overlapped trees against their rivals, by step time, round trip and number of sessions."""

    max_tokens: int = setting("tokens per text", 96)
    real: bool = setting("six cells for real, too: some ten minutes", False)
    quick: bool = setting("one session, temperature 0.8, four cells of the grid, under a minute", False)
    json: Path | None = setting("also write every row to this file", None)


def run(bench: OverlapBench) -> None:
    torch.set_num_threads(1)
    report = Report("overlap", {**asdict(bench), "draft_seconds": DRAFT_SECONDS, "seed": SEED})
    report.parameters.pop("json")
    cells = [(0.02, 0.0), (0.02, 0.5), (0.04, 0.0), (0.04, 0.5)] if bench.quick else _grid()
    _virtual(report, cells, (1,) if bench.quick else SESSIONS, (HEADLINE,) if bench.quick else TEMPERATURES, bench)
    if bench.real:
        run_async(_real(report, bench.max_tokens))
    for clock in ("virtual", "real"):
        _show(report, clock)
    report.finish(bench.json, **_results(report, "real" if report.select(clock="real") else "virtual"))


def _grid() -> list[tuple[float, float]]:
    return [(step, share) for step in STEPS for share in RTT_SHARES]


# -- virtual time ------------------------------------------------------------------------------------------------------


def _virtual(
    report: Report,
    cells: Sequence[tuple[float, float]],
    crowds: Sequence[int],
    temperatures: Sequence[float],
    bench: OverlapBench,
) -> None:
    target = ModelRunner.load(TARGET, cache_tokens=1 << 14)
    draft = ModelRunner.load(DRAFT, cache_tokens=1 << 14)
    work = [(cell, crowd, t) for cell in cells for crowd in crowds for t in temperatures]
    for (step, share), sessions, temperature in track(work, console=report.console, transient=True):
        for policy, option, speculation in _options():
            times = Times(step, DRAFT_SECONDS, share * step)
            kinds = [] if speculation.mode is Mode.OFF else [ModelDrafter(draft)]
            cluster = VirtualCluster(target, kinds, times)
            speeds, waits, lengths = [], [], []
            for first in range(0, max(PROMPTS, sessions), sessions):
                openings = _openings(first, sessions, temperature, speculation, bench.max_tokens)
                told = cluster.run(openings)
                for opening in openings:
                    at, overlap = told.at[opening.session_id], told.overlap[opening.session_id]
                    speeds.append((len(told.tokens[opening.session_id]) - 1) / (at[-1] - at[0]))
                    waits.append(overlap.verifier_wait_seconds / overlap.steps)
                    lengths.append(overlap.mean_accepted_length)
            report.add(
                clock="virtual", step=step, rtt=share, sessions=sessions, temperature=temperature, policy=policy,
                option=option, tokens_per_second=statistics.mean(speeds) * sessions, wait=statistics.mean(waits),
                mean_accepted_length=statistics.mean(lengths), valid=True,
            )  # fmt: skip


def _options() -> Iterator[tuple[str, int, SpeculationParameters]]:
    for policy, options in POLICIES.items():
        for speculation in options:
            yield policy, speculation.draft_depth, speculation


def _openings(
    first: int, count: int, temperature: float, speculation: SpeculationParameters, max_tokens: int
) -> list[OpenSession]:
    sampling = SamplingParameters(max_tokens=max_tokens, temperature=temperature, ignore_eos=True)
    return [
        OpenSession(
            f"s{index}", 1, tuple(prompt), len(prompt), sampling, speculation, noise_key(SEED, 0, prompt), b"bench"
        )
        for index, prompt in enumerate(encoded_prompts(TARGET, first + count)[first:], first)
    ]


# -- real time ---------------------------------------------------------------------------------------------------------


async def _real(report: Report, max_tokens: int) -> None:
    for step, share in track(REAL_CELLS, description="real", console=report.console, transient=True):
        link = f"rtt={share * step * 1e3:.1f}ms" if share else ""
        topology = Topology(
            models=(ModelRoute("target", str(TARGET), "verifier", ("draft",)),),
            verifiers={"verifier": VerifierPool(emulate_step_time=f"{step * 1e3:.0f}ms")},
            drafters={
                "draft": DrafterPool(
                    "model", str(DRAFT), emulate_step_time=f"{DRAFT_SECONDS * 1e3:.0f}ms", emulate_link=link
                )
            },
        )
        async with LocalCluster(topology) as cluster, GatewayClient(cluster.gateway_address) as client:
            rows = [
                {**await _decode(client, speculation, temperature, max_tokens), "policy": policy, "option": option}
                for temperature in TEMPERATURES
                for policy, option, speculation in _options()
            ]
            late = max(_late(cluster.worker(name).last_words()) for name in ("verifier", "draft"))
        for row in rows:
            report.add(clock="real", step=step, rtt=share, sessions=1, late=late, valid=late <= MOST_LATE, **row)


async def _decode(
    client: GatewayClient, speculation: SpeculationParameters, temperature: float, max_tokens: int
) -> Row:
    """Two prompts, one after the other."""
    sampling = SamplingParameters(max_tokens=max_tokens, temperature=temperature, ignore_eos=True)
    done = []
    for prompt in encoded_prompts(TARGET, 2):
        request = Generate(token_ids=tuple(prompt), sampling=sampling, speculation=speculation, seed=SEED)
        chunks = [chunk async for chunk in client.generate(request)]
        completion = chunks[-1].completion
        assert completion is not None, "a stream that ends without an error ends with its completion"
        done.append(completion)
    return {
        "temperature": temperature,
        "tokens_per_second": statistics.mean(1 / completion.tpot_seconds for completion in done),
        "mean_accepted_length": statistics.mean(completion.overlap.mean_accepted_length for completion in done),
        "wait": statistics.mean(c.overlap.verifier_wait_seconds / c.overlap.steps for c in done),
    }


def _late(log: str) -> float:
    """Share of forwards that missed their deadline, as a service last said."""
    found = re.findall(r"pace: (\d+) of (\d+) forwards", log)
    return int(found[-1][0]) / int(found[-1][1]) if found else 0.0


# -- what came of it ---------------------------------------------------------------------------------------------------


def _best(report: Report, policy: str, **cell: object) -> float:
    """Tokens per second of a policy with its best option; NaN where it has not run."""
    found = [row["tokens_per_second"] for row in report.select(policy=policy, **cell)]
    return max(found, default=float("nan"))


def _cells(report: Report, clock: str) -> list[Row]:
    names = ("clock", "step", "rtt", "sessions", "temperature")
    return list(
        {tuple(row[n] for n in names): {n: row[n] for n in names} for row in report.select(clock=clock)}.values()
    )


def _results(report: Report, clock: str) -> dict[str, float]:
    """One session, temperature 0.8, valid cells; the three ratios over 20 and 40 ms at no round trip."""
    cells = [c for c in _cells(report, clock) if c["sessions"] == 1 and c["temperature"] == HEADLINE]
    cells = [cell for cell in cells if all(row["valid"] for row in report.select(**cell))]
    near = [cell for cell in cells if cell["rtt"] == 0 and cell["step"] <= 0.04]

    def over(policy: str) -> float:
        return _mean([_best(report, TREE, **cell) / _best(report, policy, **cell) for cell in near])

    halves = [(_best(report, TREE, **{**cell, "rtt": 0.5}), _best(report, TREE, **cell)) for cell in near]
    worst = [
        _best(report, TREE, **cell) / max(_best(report, policy, **cell) for policy in (*BASELINES, "off"))
        for cell in cells
    ]
    return {
        "tree_vs_lockstep_chain": over(LOCKSTEP_CHAIN),
        "tree_vs_overlapped_chain": over(CHAIN),
        "tree_vs_lockstep_tree": over(LOCKSTEP_TREE),
        "kept_at_half_rtt": _mean([half / whole for half, whole in halves]),
        "worst_vs_best_baseline": min(worst, default=float("nan")),
    }


def _mean(values: Sequence[float]) -> float:
    return statistics.mean(values) if values else float("nan")


def _show(report: Report, clock: str) -> None:
    lines = []
    for cell in _cells(report, clock):
        speeds = {policy: _best(report, policy, **cell) for policy in POLICIES}
        best = max(speeds[policy] for policy in BASELINES)
        (tree,) = report.select(policy=TREE, **cell)
        lines.append(
            [
                f"{cell['step'] * 1e3:.0f} ms", f"{cell['rtt']:g}", str(cell["sessions"]), f"{cell['temperature']:g}",
                *(f"{speed:.1f}" for speed in speeds.values()), f"{speeds[TREE] / best:.2f}",
                f"{tree['mean_accepted_length']:.2f}", f"{tree['wait'] * 1e3:.1f}", "" if tree["valid"] else "late",
            ]
        )  # fmt: skip
    if lines:
        columns = ("step", "RTT", "sessions", "temp.", *POLICIES, "tree / best", "τ", "wait ms", "")
        report.table(f"{clock} time: tokens/s, each policy with its best option", columns, lines)
