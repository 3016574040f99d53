"""``bench journal``: what it costs that every token is in Redis before a client sees it.

One verifier, one Redis and two gateways, one of which keeps its sessions there and one in its own memory. They serve
the same requests in turn, so that whatever else the machine does meanwhile falls on both.
"""

from __future__ import annotations

import asyncio
import os
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from rich.progress import track

from paceline.bench.decode import encoded_prompts
from paceline.bench.report import Report, Row
from paceline.client import GatewayClient
from paceline.cluster.local import LocalCluster, gateway_arguments, verifier_arguments
from paceline.cluster.topology import EMBEDDED, GatewayPool, ModelRoute, Topology, VerifierPool
from paceline.embedded import MODEL_ID, TARGET
from paceline.messages import Generate
from paceline.process import run_async
from paceline.settings import setting
from paceline.speculation.fields import require
from paceline.speculation.policy import Mode, SpeculationParameters
from paceline.speculation.sampling import SamplingParameters
from paceline.testing.processes import Process

JOURNALS = ("memory", "redis")
TOPOLOGY = Topology(
    models=(ModelRoute(MODEL_ID, str(TARGET), "verifier"),),
    verifiers={"verifier": VerifierPool()},
    gateway=GatewayPool(http=-1),
    redis=EMBEDDED,
)


@dataclass(frozen=True)
class JournalBench:
    """Tokens per second with a journal in Redis, against one in the gateway's memory."""

    sessions: tuple[str, ...] = setting("concurrent requests, separated by commas", ("1", "64"))
    tokens: int = setting("tokens of an answer", 64)
    repeats: int = setting("rounds of each cell; medians are reported", 9)
    json: Path | None = setting("also write every row to this file", None)

    def __post_init__(self) -> None:
        whole = all(count.isdigit() and int(count) > 0 for count in self.sessions)
        require(whole, "sessions", ",".join(self.sessions), "whole numbers above 0")
        for field in ("tokens", "repeats"):
            require(getattr(self, field) >= 1, field, getattr(self, field), "at least 1")


class TwoGateways(LocalCluster):
    """The topology's verifier and Redis, and a gateway for each kind of journal."""

    def _start(self) -> None:
        (model,) = self.topology.models
        arguments = verifier_arguments(model, self.topology.verifiers[model.verifiers], None)
        threads = str(max(1, (os.cpu_count() or 1) - 1))
        verifier = self._spawn("verifier", "verifier_service", [*arguments, "--threads", threads])
        for journal in JOURNALS:
            redis = self.topology.redis if journal == "redis" else None
            name = _gateway(journal)
            self.gateway_addresses.append(
                self._spawn(name, "gateway", gateway_arguments([verifier], [], -1, redis, name))
            )


def run(bench: JournalBench) -> None:
    report = Report("journal", asdict(bench))
    report.parameters.pop("json")
    run_async(_measure(report, bench))
    results, lines = {}, []
    for count in map(int, bench.sessions):
        ratio = report.ratio("tokens_per_second", _where("redis", count), _where("memory", count))
        speeds = [f"{report.median('tokens_per_second', **_where(journal, count)):.0f}" for journal in JOURNALS]
        cpu = [f"{report.median('gateway_us_per_token', **_where(journal, count)):.0f}" for journal in JOURNALS]
        lines.append([str(count), *speeds, f"{ratio:.3f}", *cpu])
        results[f"kept_{count}"] = ratio
    columns = ("sessions", "memory tokens/s", "redis tokens/s", "ratio", "gateway's us/token", "with redis")
    report.table("What a journal in Redis costs", columns, lines)
    report.finish(bench.json, **results)


def _gateway(journal: str) -> str:
    return f"gateway-{journal}"


def _where(journal: str, sessions: int) -> Row:
    return {"journal": journal, "sessions": sessions}


async def _measure(report: Report, bench: JournalBench) -> None:
    prompts = encoded_prompts(TARGET, max(map(int, bench.sessions)))
    async with TwoGateways(TOPOLOGY) as fleet:
        cells = [(repeat, int(count)) for repeat in range(-1, bench.repeats) for count in bench.sessions]
        for repeat, count in track(cells, console=report.console, transient=True):
            for journal in JOURNALS if repeat % 2 else JOURNALS[::-1]:
                address = fleet.gateway_addresses[JOURNALS.index(journal)]
                process = Process(fleet.worker(_gateway(journal)).process.pid)
                async with GatewayClient(address) as client:
                    row = await _round(client, process, prompts[:count], bench.tokens)
                if repeat >= 0:  # the first round warms up
                    report.add(**_where(journal, count), repeat=repeat, **row)


async def _round(client: GatewayClient, gateway: Process, prompts: list[list[int]], tokens: int) -> Row:
    sampling, speculation = SamplingParameters(tokens, 0.8, ignore_eos=True), SpeculationParameters(Mode.OFF)

    async def one(prompt: list[int], seed: int) -> int:
        asked = Generate(token_ids=tuple(prompt), sampling=sampling, speculation=speculation, seed=seed)
        return sum([len(chunk.token_ids) async for chunk in client.generate(asked)])

    started, busy = time.perf_counter(), gateway.cpu_seconds
    told = sum(await asyncio.gather(*(one(prompt, seed) for seed, prompt in enumerate(prompts))))
    seconds, busy = time.perf_counter() - started, gateway.cpu_seconds - busy
    return {"tokens_per_second": told / seconds, "gateway_us_per_token": busy / told * 1e6}
