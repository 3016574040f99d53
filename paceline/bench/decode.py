"""``bench decode``: tokens per second through the services, beside what Transformers does with the same models.

A fleet with the target alone serves ``off`` with all threads; a fleet of the pair serves ``lockstep`` and
``overlapped`` with the same number of threads in all; Transformers has a process with as many. All of them take turns
in one run. Prefill is part of every measurement, so are gRPC and detokenizing for the fleets.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import math
import os
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from rich.progress import Progress
from tokenizers import Tokenizer

from paceline.bench.baselines import Answer, Ask
from paceline.bench.llama import llama_server
from paceline.bench.prompts import CODE_PROMPTS
from paceline.bench.report import Report
from paceline.bench.text import repeated_ngrams
from paceline.checkpoint import check_reference, resolve
from paceline.client import GatewayClient
from paceline.cluster.local import LocalCluster
from paceline.cluster.topology import GatewayPool, ModelRoute, Topology, VerifierPool
from paceline.embedded import DRAFT, TARGET, pair_topology
from paceline.messages import Generate
from paceline.process import run_async
from paceline.settings import setting
from paceline.speculation.fields import require
from paceline.speculation.policy import Mode, SpeculationParameters
from paceline.speculation.sampling import SamplingParameters

OURS = ("off", "lockstep", "overlapped")
ALONE = ("assisted", "prompt lookup")
"""Transformers speculates for one prompt at a time."""
LLAMA = "llama.cpp"
SYSTEMS = (*OURS, "generate", *ALONE, "continuous batching", LLAMA)
HEADLINE = 0.8
System = Callable[[Ask], Awaitable[Answer]]


@dataclass(frozen=True)
class DecodeBench:
    """Tokens per second of services and of Transformers, by batch, greedy and at temperature 0.8."""

    target: str = setting("target checkpoint, a directory or a hub id", str(TARGET))
    draft: str = setting("draft checkpoint, a directory or a hub id", str(DRAFT))
    batches: tuple[str, ...] = setting("concurrent requests, separated by commas", ("1", "4", "16", "32"))
    max_tokens: int = setting("tokens per request", 128)
    repeats: int = setting("measurements of each cell, interleaved; medians are reported", 5)
    llama_server: Path | None = setting("binary of llama.cpp's server, to compare with it, too", None)
    quick: bool = setting("batches 1 and 16, 48 tokens, under a minute", False)
    json: Path | None = setting("also write every row to this file", None)

    def __post_init__(self) -> None:
        for field in ("target", "draft"):
            check_reference(field, getattr(self, field))
        whole = all(batch.isdigit() and int(batch) > 0 for batch in self.batches)
        require(whole, "batches", ",".join(self.batches), "whole numbers above 0")
        for field in ("max_tokens", "repeats"):
            require(getattr(self, field) >= 1, field, getattr(self, field), "at least 1")


def run(bench: DecodeBench) -> None:
    batches = (1, 16) if bench.quick else tuple(int(batch) for batch in bench.batches)
    tokens, repeats = (48, 2) if bench.quick else (bench.max_tokens, bench.repeats)
    report = Report("decode", {**asdict(bench), "batches": batches, "max_tokens": tokens, "repeats": repeats})
    report.parameters.pop("json")
    models = resolve(bench.target), resolve(bench.draft)
    run_async(_measure(report, models, bench.llama_server, batches, tokens, repeats))
    _show(report, batches)
    off, cell = {"system": "off", "temperature": HEADLINE}, {"temperature": HEADLINE}
    one = {"batch": 1}

    def ratio(over: dict[str, object], under: dict[str, object]) -> float:
        return report.ratio("tokens_per_second", over, under)

    report.finish(
        bench.json,
        off_vs_generate=ratio({**off, **one}, {**cell, **one, "system": "generate"}),
        off_vs_continuous_batching=ratio({**off, "batch": 16}, {**cell, "batch": 16, "system": "continuous batching"}),
        overlapped_vs_off=ratio({**cell, **one, "system": "overlapped"}, {**off, **one}),
        overlapped_vs_assisted=ratio({**cell, **one, "system": "overlapped"}, {**cell, **one, "system": "assisted"}),
    )


async def _measure(
    report: Report,
    models: tuple[Path, Path],
    llama: Path | None,
    batches: Sequence[int],
    max_tokens: int,
    repeats: int,
) -> None:
    prompts = encoded_prompts(models[0], max(batches))
    async with _systems(*models, llama, slots=max(batches)) as systems:
        cells = [(t, batch, repeat) for t in (0.0, HEADLINE) for batch in batches for repeat in range(-1, repeats)]
        with Progress(console=report.console, transient=True) as progress:
            task = progress.add_task("decode", total=len(cells))
            for temperature, batch, repeat in cells:
                for name, system in systems.items():
                    if name in ALONE and batch > 1:
                        continue
                    ask = Ask(name, prompts[:batch], max_tokens, temperature, seed=1000 + repeat)
                    answer = await system(ask)
                    if repeat >= 0:  # the first round warms up
                        _add(report, ask, answer, repeat)
                progress.advance(task)


def _add(report: Report, ask: Ask, answer: Answer, repeat: int) -> None:
    made = [len(token_ids) for token_ids in answer.token_ids]
    assert made == [ask.max_tokens] * len(ask.prompts), f"{ask.system} gave {made} tokens"
    report.add(
        system=ask.system,
        temperature=ask.temperature,
        batch=len(ask.prompts),
        repeat=repeat,
        seconds=answer.seconds,
        tokens_per_second=sum(made) / answer.seconds,
        repeated=sum(map(repeated_ngrams, answer.token_ids)) / len(made),
    )


def encoded_prompts(target: Path, count: int) -> list[list[int]]:
    """Distinct prompts: the code prompts, after the first ten with a comment before them."""
    tokenizer = Tokenizer.from_file(str(target / "tokenizer.json"))
    texts = [
        (f"# Part {index // len(CODE_PROMPTS)}\n" if index >= len(CODE_PROMPTS) else "")
        + CODE_PROMPTS[index % len(CODE_PROMPTS)]
        for index in range(count)
    ]
    return [list(tokenizer.encode(text).ids) for text in texts]


@contextlib.asynccontextmanager
async def _systems(target: Path, draft: Path, llama: Path | None, slots: int) -> AsyncIterator[dict[str, System]]:
    """Everything that is compared, started side by side."""
    threads = os.cpu_count() or 1
    alone = Topology(
        models=(ModelRoute("target", str(target), "verifier"),),
        verifiers={"verifier": VerifierPool()},
        gateway=GatewayPool(),
    )
    async with contextlib.AsyncExitStack() as stack:
        baselines = await stack.enter_async_context(_baselines(target, draft, threads))  # before gRPC has threads
        fleets = []
        for topology in (alone, pair_topology(str(target), str(draft), "target")):
            cluster = await stack.enter_async_context(LocalCluster(topology))
            fleets.append(await stack.enter_async_context(GatewayClient(cluster.gateway_address)))
        ours: dict[str, System] = {
            "off": _fleet(fleets[0], Mode.OFF),
            "lockstep": _fleet(fleets[1], Mode.LOCKSTEP),
            "overlapped": _fleet(fleets[1], Mode.OVERLAPPED),
        }
        if llama is not None:
            ours[LLAMA] = await stack.enter_async_context(llama_server(llama, target, threads, slots))
        yield {name: ours.get(name, baselines) for name in SYSTEMS if name != LLAMA or llama is not None}


def _fleet(client: GatewayClient, mode: Mode) -> System:
    async def one(prompt: list[int], ask: Ask, seed: int) -> list[int]:
        request = Generate(
            token_ids=tuple(prompt),
            sampling=SamplingParameters(max_tokens=ask.max_tokens, temperature=ask.temperature, ignore_eos=True),
            speculation=SpeculationParameters(mode=mode),
            seed=seed,
        )
        return [token_id async for chunk in client.generate(request) for token_id in chunk.token_ids]

    async def system(ask: Ask) -> Answer:
        started = time.perf_counter()
        token_ids = await asyncio.gather(*(one(prompt, ask, ask.seed) for prompt in ask.prompts))
        return Answer(list(token_ids), time.perf_counter() - started)

    return system


@contextlib.asynccontextmanager
async def _baselines(target: Path, draft: Path, threads: int) -> AsyncIterator[System]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "paceline.bench.baselines", str(target), str(draft), str(threads),
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL,
        limit=1 << 24,
    )  # fmt: skip
    assert process.stdin is not None, "asked for"
    assert process.stdout is not None, "asked for"
    stdin, stdout = process.stdin, process.stdout
    await stdout.readline()

    async def system(ask: Ask) -> Answer:
        stdin.write(json.dumps(asdict(ask)).encode() + b"\n")
        await stdin.drain()
        line = await stdout.readline()
        require(bool(line), "baseline", ask.system, "an answer; Transformers' process has ended")
        return Answer(**json.loads(line))

    try:
        yield system
    finally:
        stdin.close()
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(process.wait(), 10)
        if process.returncode is None:
            process.kill()
            await process.wait()


def _show(report: Report, batches: Sequence[int]) -> None:
    lines = []
    for temperature in (0.0, HEADLINE):
        for system in (name for name in SYSTEMS if report.select(system=name)):
            cells = []
            for batch in batches:
                where = {"temperature": temperature, "batch": batch}
                speed = report.median("tokens_per_second", system=system, **where)
                ratio = report.ratio("tokens_per_second", {**where, "system": system}, {**where, "system": "off"})
                cells.append("" if math.isnan(speed) else f"{speed:.0f}  ({ratio:.2f})")
            repeated = report.median("repeated", system=system, temperature=temperature, batch=batches[0])
            lines.append([f"{temperature}", system, *cells, f"{repeated:.0%}"])
    columns = ("temp.", "system", *(f"batch {batch}" for batch in batches), "repeats")
    report.table(
        "tokens/s, all requests together, prefill included (ratio to off; repeats: at the first batch)", columns, lines
    )
