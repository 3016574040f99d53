"""``bench prefill``: time to the first token, of new and of repeated prompts, alone and beside long ones."""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections.abc import AsyncIterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.progress import track

from paceline.bench.report import Report
from paceline.checkpoint import check_reference
from paceline.client import GatewayClient
from paceline.cluster.local import LocalCluster
from paceline.cluster.topology import ModelRoute, Topology, VerifierPool
from paceline.embedded import TARGET
from paceline.messages import Generate
from paceline.process import run_async
from paceline.settings import setting
from paceline.speculation.fields import require
from paceline.speculation.policy import Mode, SpeculationParameters
from paceline.speculation.sampling import SamplingParameters

NUMERICS = ("standard", "deterministic")
LONG, SHORT, HEAD_START_SECONDS = 3000, 20, 0.01
WORDS = 1000
"""Random prompts are made of token ids below this, which every vocabulary has."""


@dataclass(frozen=True)
class PrefillBench:
    """Times to first token through the services, with both numerics."""

    target: str = setting("target checkpoint, a directory or a hub id", str(TARGET))
    tokens: int = setting("tokens of the prompt that is repeated", 2000)
    repeats: int = setting("measurements of each kind, interleaved; medians are reported", 15)
    quick: bool = setting("fewer repeats, under a minute", False)
    json: Path | None = setting("also write every row to this file", None)

    def __post_init__(self) -> None:
        check_reference("target", self.target)
        for field in ("tokens", "repeats"):
            require(getattr(self, field) >= 1, field, getattr(self, field), "at least 1")


def run(bench: PrefillBench) -> None:
    repeats = min(bench.repeats, 5) if bench.quick else bench.repeats
    report = Report("prefill", {**asdict(bench), "repeats": repeats})
    report.parameters.pop("json")
    run_async(_measure(report, bench, repeats))
    kinds = ("new", "repeated", "short alone", "short beside long")
    lines = [
        [kind, *(f"{report.median('seconds', kind=kind, numerics=n) * 1e3:.1f}" for n in NUMERICS)] for kind in kinds
    ]
    report.table(f"milliseconds to the first token ({bench.tokens} tokens)", ("prompt", *NUMERICS), lines)
    standard, exact = ({"numerics": name} for name in NUMERICS)

    def ratio(over: dict[str, Any], under: dict[str, Any]) -> float:
        return report.ratio("seconds", over, under)

    new, beside, alone = {"kind": "new"}, {"kind": "short beside long"}, {"kind": "short alone"}
    report.finish(
        bench.json,
        new_vs_repeated=ratio({**new, **standard}, {"kind": "repeated", **standard}),
        short_beside_long_vs_alone=ratio({**beside, **standard}, {**alone, **standard}),
        deterministic_vs_standard=ratio({**new, **exact}, {**new, **standard}),
    )


async def _measure(report: Report, bench: PrefillBench, repeats: int) -> None:
    source = random.Random(0)
    async with contextlib.AsyncExitStack() as stack:
        clients = {name: await stack.enter_async_context(_fleet(bench.target, name)) for name in NUMERICS}
        for repeat in track(range(-1, repeats), console=report.console, transient=True):
            for numerics, client in clients.items():
                for kind, seconds in (await _times(client, bench.tokens, source)).items():
                    if repeat >= 0:  # the first round warms up
                        report.add(kind=kind, numerics=numerics, repeat=repeat, seconds=seconds)


@contextlib.asynccontextmanager
async def _fleet(target: str, numerics: str) -> AsyncIterator[GatewayClient]:
    topology = Topology(
        models=(ModelRoute("target", target, "verifier"),), verifiers={"verifier": VerifierPool(numerics=numerics)}
    )
    async with LocalCluster(topology) as cluster, GatewayClient(cluster.gateway_address) as client:
        yield client


async def _times(client: GatewayClient, tokens: int, source: random.Random) -> dict[str, float]:
    """Seconds to the first token of one prompt of each kind."""
    prompt = _random_prompt(tokens, source)
    (new, first), (repeated, again) = await _first(client, prompt), await _first(client, prompt)
    require(first == again, "repeated prompt", again, f"the tokens of the first time, {first}")
    alone, _ = await _first(client, _random_prompt(SHORT, source))
    long = asyncio.create_task(_first(client, _random_prompt(LONG, source)))
    await asyncio.sleep(HEAD_START_SECONDS)
    beside, _ = await _first(client, _random_prompt(SHORT, source))
    require(not long.done(), "long prompt", "done", "to be still computing: the short one was not beside it")
    await long
    return {"new": new, "repeated": repeated, "short alone": alone, "short beside long": beside}


def _random_prompt(tokens: int, source: random.Random) -> tuple[int, ...]:
    return tuple(source.randrange(1, WORDS) for _ in range(tokens))


async def _first(client: GatewayClient, prompt: tuple[int, ...]) -> tuple[float, tuple[int, ...]]:
    """Seconds until the first token is here, and a few tokens."""
    request = Generate(
        token_ids=prompt,
        sampling=SamplingParameters(max_tokens=8, temperature=0.8, ignore_eos=True),
        speculation=SpeculationParameters(mode=Mode.OFF),
        seed=1,
    )
    started, seconds, found = time.perf_counter(), 0.0, list[int]()
    async for chunk in client.generate(request):
        if chunk.token_ids and not found:
            seconds = time.perf_counter() - started
        found.extend(chunk.token_ids)
    return seconds, tuple(found)
