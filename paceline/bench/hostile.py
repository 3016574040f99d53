"""``bench hostile``: what drafters cost that say what no drafter should.

One verifier with deterministic numerics and a drafter of every script of ``paceline.testing``, each a process. Every
script drafts in turn, alone; before each of its answers the target answers the same by itself, so that whatever else
the machine does meanwhile falls on both. Texts must be equal bit by bit. The verifier's processor time for a token is
told beside: on cores that are shared with others it is the steadier figure.
"""

from __future__ import annotations

import asyncio
import os
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.progress import track

from paceline.bench.decode import encoded_prompts
from paceline.bench.report import Report
from paceline.client import GatewayClient
from paceline.cluster.local import LocalCluster, gateway_arguments, verifier_arguments
from paceline.cluster.topology import GatewayPool, ModelRoute, Topology, VerifierPool
from paceline.embedded import MODEL_ID, TARGET
from paceline.messages import Generate
from paceline.process import run_async
from paceline.settings import setting
from paceline.speculation.fields import require
from paceline.speculation.policy import Mode, SpeculationParameters
from paceline.speculation.sampling import SamplingParameters
from paceline.testing.processes import Process
from paceline.testing.scripts import SCRIPTS

HOSTILE = tuple(script for script in SCRIPTS if script != "perfect")
VOCABULARY_SIZE = 4096
TOPOLOGY = Topology(
    models=(ModelRoute(MODEL_ID, str(TARGET), "verifier"),),
    verifiers={"verifier": VerifierPool(numerics="deterministic")},
    gateway=GatewayPool(http=-1),
)


@dataclass(frozen=True)
class HostileBench:
    """Tokens per second beside hostile drafters, against the target alone."""

    scripts: tuple[str, ...] = setting("scripts of the drafters, separated by commas", HOSTILE)
    sessions: tuple[str, ...] = setting("concurrent requests, separated by commas", ("1", "16"))
    tokens: int = setting("tokens of an answer", 256)
    repeats: int = setting("answers of each cell; medians are reported", 5)
    quick: bool = setting("two short answers of each cell", False)
    json: Path | None = setting("also write every row to this file", None)

    def __post_init__(self) -> None:
        for script in self.scripts:
            require(script in SCRIPTS, "scripts", script, f"some of {', '.join(SCRIPTS)}")
        whole = all(count.isdigit() and int(count) > 0 for count in self.sessions)
        require(whole, "sessions", ",".join(self.sessions), "whole numbers above 0")
        for field in ("tokens", "repeats"):
            require(getattr(self, field) >= 1, field, getattr(self, field), "at least 1")


def run(bench: HostileBench) -> None:
    tokens, repeats = (64, 2) if bench.quick else (bench.tokens, bench.repeats)
    report = Report("hostile", {**asdict(bench), "tokens": tokens, "repeats": repeats})
    report.parameters.pop("json")
    run_async(_measure(report, bench.scripts, [int(count) for count in bench.sessions], tokens, repeats))
    ratios = _show(report, bench)
    report.finish(bench.json, hostile_worst=min(ratios), texts_changed=sum(row["texts_changed"] for row in report.rows))


class HostileFleet(LocalCluster):
    """The topology's fleet with scripted drafters, each named after its script."""

    def __init__(self, scripts: tuple[str, ...]) -> None:
        super().__init__(TOPOLOGY)
        self._scripts = scripts

    @property
    def verifier(self) -> Process:
        return Process(self.worker("verifier").process.pid)

    def _start(self) -> None:
        (model,) = self.topology.models
        arguments = verifier_arguments(model, self.topology.verifiers[model.verifiers], None)
        threads = str(max(1, (os.cpu_count() or 1) - 1))
        verifier = self._spawn("verifier", "verifier_service", [*arguments, "--threads", threads])
        common = ["--verifiers", verifier, "--vocabulary-size", str(VOCABULARY_SIZE)]
        drafters = [
            self._spawn(script, "paceline.testing.drafter", ["--script", script, "--name", script, *common])
            for script in self._scripts
        ]
        arguments = gateway_arguments([verifier], drafters, self.topology.gateway.http, None, "gateway")
        self.gateway_addresses = [self._spawn("gateway", "gateway", arguments)]


async def _measure(report: Report, scripts: tuple[str, ...], counts: list[int], tokens: int, repeats: int) -> None:
    prompts = encoded_prompts(TARGET, max(counts))
    fleet = HostileFleet(scripts)
    async with fleet, GatewayClient(fleet.gateway_address) as client:
        cells = [(repeat, count, script) for repeat in range(-1, repeats) for count in counts for script in scripts]
        for repeat, count, script in track(cells, console=report.console, transient=True):
            asked = Asked(client, fleet.verifier, prompts[:count], tokens, seed=1000 + repeat)
            alone, hostile = await asked.answers(), await asked.answers(script)
            if repeat < 0:  # the first round warms up
                continue
            report.add(
                script=script,
                sessions=count,
                repeat=repeat,
                tokens_per_second=hostile.tokens_per_second,
                ratio=hostile.tokens_per_second / alone.tokens_per_second,
                verifier_ratio=hostile.verifier_seconds / alone.verifier_seconds,
                texts_changed=sum(a != b for a, b in zip(alone.texts, hostile.texts, strict=True)),
            )


@dataclass(frozen=True)
class Answers:
    """What came of all requests together, and the processor time that the verifier took."""

    texts: list[list[int]]
    seconds: float
    verifier_seconds: float

    @property
    def tokens_per_second(self) -> float:
        return sum(map(len, self.texts)) / self.seconds


@dataclass(frozen=True)
class Asked:
    """The same requests, to be answered again and again."""

    client: GatewayClient
    verifier: Process
    prompts: list[list[int]]
    tokens: int
    seed: int

    async def answers(self, script: str = "") -> Answers:
        """Drafted for by ``script``, or by nobody."""
        mode = Mode.OVERLAPPED if script else Mode.OFF
        speculation = SpeculationParameters(mode, drafters=(script,) if script else ())
        started, busy = time.perf_counter(), self.verifier.cpu_seconds
        texts = await asyncio.gather(*(self._answer(prompt, speculation) for prompt in self.prompts))
        return Answers(list(texts), time.perf_counter() - started, self.verifier.cpu_seconds - busy)

    async def _answer(self, prompt: list[int], speculation: SpeculationParameters) -> list[int]:
        sampling = SamplingParameters(self.tokens, 0.8, ignore_eos=True)
        asked = Generate(token_ids=tuple(prompt), sampling=sampling, speculation=speculation, seed=self.seed)
        return [token_id async for chunk in self.client.generate(asked) for token_id in chunk.token_ids]


def _show(report: Report, bench: HostileBench) -> list[float]:
    """Prints the table; the ratios of its cells."""
    ratios, lines = [], []
    for script in bench.scripts:
        cells: list[Any] = []
        for count in bench.sessions:
            where = {"script": script, "sessions": int(count)}
            ratios.append(report.median("ratio", **where))
            cells.append(f"{report.median('tokens_per_second', **where):.0f}  ({ratios[-1]:.2f})")
            cells.append(f"{report.median('verifier_ratio', **where):.2f}")
        lines.append([script, *cells])
    columns = ("script", *(title for count in bench.sessions for title in (f"{count} sessions", "verifier's time")))
    report.table("tokens/s with a hostile drafter (ratio to the target alone), verifier's ratio", columns, lines)
    return ratios
