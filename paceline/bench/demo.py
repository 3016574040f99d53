"""The demo: the same prompts in all three modes, to see what speculation changes and what it does not."""

from __future__ import annotations

import json
import statistics
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from paceline.bench.prompts import CODE_PROMPTS
from paceline.bench.text import repeated_ngrams
from paceline.client import GatewayClient
from paceline.cluster.local import LocalCluster
from paceline.embedded import pair_topology
from paceline.messages import Chunk, Completion, Generate
from paceline.process import run_async
from paceline.speculation.policy import Mode, SpeculationParameters
from paceline.speculation.sampling import SamplingParameters
from paceline.timeline import check_ending, write_timeline
from paceline.timeline.runs import drawn_in, repeatable

MODES = (Mode.OFF, Mode.LOCKSTEP, Mode.OVERLAPPED)
TEMPERATURES = (0.0, 0.8)
SEED = 20_26
DRAWN = (Mode.LOCKSTEP, Mode.OVERLAPPED)
"""Modes of the timeline, from top to bottom."""


@dataclass(frozen=True)
class Run:
    """One text: which prompt, how, and what came of it."""

    prompt: int
    temperature: float
    mode: str
    token_ids: tuple[int, ...]
    text: str
    tokens_per_second: float
    mean_accepted_length: float
    drafters: dict[str, dict[str, int]]

    @property
    def repetition(self) -> float:
        return repeated_ngrams(self.token_ids)


def run_demo(prompts: int, max_tokens: int, output: Path | None, timeline: Path | None) -> None:
    """Starts the embedded fleet, runs all modes interleaved, prints texts and a table; draws one of the prompts."""
    if timeline is not None:
        check_ending(timeline, "timeline")
    console = Console()
    runs, answers = run_async(_fleet_runs(console, prompts, max_tokens, drawn=timeline is not None))
    console.print(_table(runs))
    console.print(_verdict(runs))
    console.print(
        "tokens/s: median over the prompts, decoding only; ratio: median of the prompts' own ratios to off. "
        "Small models repeat themselves, greedy ones most, and repetition flatters every drafter: "
        "read the column of repeats (share of repeated 8-grams) beside the ratio."
    )
    if output is not None:
        output.write_text(json.dumps([asdict(run) for run in runs]) + "\n")
    if timeline is not None:
        write_timeline({"answers": answers}, timeline)
        console.print(f"timeline of the first prompt, lockstep above overlapped: {timeline}", soft_wrap=True)


async def _fleet_runs(
    console: Console, prompts: int, max_tokens: int, *, drawn: bool
) -> tuple[list[Run], list[dict[str, Any]]]:
    started = time.monotonic()
    async with LocalCluster(pair_topology()) as cluster, GatewayClient(cluster.gateway_address) as client:
        console.print(f"{len(cluster.workers)} processes serve after {time.monotonic() - started:.1f} s")
        await _show_one(console, client, max_tokens)
        runs = await _measure(client, CODE_PROMPTS[:prompts], max_tokens)
        return runs, await _draw(client, max_tokens) if drawn else []


async def _draw(client: GatewayClient, max_tokens: int) -> list[dict[str, Any]]:
    """What happens in the first prompt's answers."""
    request = repeatable(_request(CODE_PROMPTS[0], DRAWN[0], 0.8, max_tokens))
    return [answer for mode in DRAWN for answer in await drawn_in(client, request, mode)]


async def _show_one(console: Console, client: GatewayClient, max_tokens: int) -> None:
    """Streams one text, so that there is something to read; it warms the processes up too."""
    prompt = CODE_PROMPTS[0]
    console.rule("overlapped, temperature 0.8")
    console.print(prompt, end="", style="bold", markup=False, highlight=False)
    async for chunk in client.generate(_request(prompt, Mode.OVERLAPPED, 0.8, max_tokens)):
        sys.stdout.write(chunk.text)
        sys.stdout.flush()
    console.print()
    console.rule()
    for mode in MODES:
        async for _ in client.generate(_request(prompt, mode, 0.8, 32)):
            pass


async def _measure(client: GatewayClient, prompts: Sequence[str], max_tokens: int) -> list[Run]:
    runs = []
    for temperature in TEMPERATURES:
        for index, prompt in enumerate(prompts):
            for mode in MODES:
                chunks = [c async for c in client.generate(_request(prompt, mode, temperature, max_tokens))]
                runs.append(_run(index, temperature, mode, chunks))
    return runs


def _request(prompt: str, mode: Mode, temperature: float, max_tokens: int) -> Generate:
    sampling = SamplingParameters(max_tokens=max_tokens, temperature=temperature, ignore_eos=True)
    return Generate(text=prompt, sampling=sampling, speculation=SpeculationParameters(mode=mode), seed=SEED)


def _run(prompt: int, temperature: float, mode: Mode, chunks: Sequence[Chunk]) -> Run:
    done = chunks[-1].completion
    assert done is not None, "a stream that ends without an error ends with its completion"
    return Run(
        prompt=prompt,
        temperature=temperature,
        mode=mode.value,
        token_ids=tuple(token_id for chunk in chunks for token_id in chunk.token_ids),
        text="".join(chunk.text for chunk in chunks),
        tokens_per_second=_speed(done),
        mean_accepted_length=done.overlap.mean_accepted_length,
        drafters={d.drafter_id: {"verified": d.verified, "accepted": d.accepted} for d in done.overlap.drafters},
    )


def _speed(done: Completion) -> float:
    return 1.0 / done.tpot_seconds if done.tpot_seconds > 0 else 0.0


def _select(runs: Sequence[Run], temperature: float, mode: Mode) -> list[Run]:
    return [run for run in runs if run.temperature == temperature and run.mode == mode.value]


def ratio_to_off(runs: Sequence[Run], temperature: float, mode: Mode) -> float:
    """Median over the prompts of this mode's speed over that of ``off`` for the same prompt."""
    pairs = zip(_select(runs, temperature, mode), _select(runs, temperature, Mode.OFF), strict=True)
    return statistics.median(run.tokens_per_second / off.tokens_per_second for run, off in pairs)


def identical(runs: Sequence[Run], temperature: float) -> int:
    """For how many prompts all modes gave the same tokens."""
    groups = zip(*(_select(runs, temperature, mode) for mode in MODES), strict=True)
    return sum(len({run.token_ids for run in group}) == 1 for group in groups)


def _table(runs: Sequence[Run]) -> Table:
    table = Table(title=f"{len(runs) // (len(MODES) * len(TEMPERATURES))} code prompts")
    for name in ("temp.", "mode", "tokens/s", "ratio", "τ", "accepted / verified", "repeats"):
        table.add_column(name, justify="left" if name in ("mode", "accepted / verified") else "right")
    for temperature in TEMPERATURES:
        for mode in MODES:
            chosen = _select(runs, temperature, mode)
            table.add_row(
                f"{temperature}",
                mode.value,
                f"{statistics.median(run.tokens_per_second for run in chosen):.0f}",
                f"{ratio_to_off(runs, temperature, mode):.2f}",
                f"{statistics.mean(run.mean_accepted_length for run in chosen):.2f}",
                _acceptance(chosen),
                f"{statistics.mean(run.repetition for run in chosen):.0%}",
            )
    return table


def _acceptance(runs: Sequence[Run]) -> str:
    names = sorted({name for run in runs for name in run.drafters})
    parts = []
    for name in names:
        verified = sum(run.drafters.get(name, {}).get("verified", 0) for run in runs)
        accepted = sum(run.drafters.get(name, {}).get("accepted", 0) for run in runs)
        parts.append(f"{name} {accepted / verified:.0%}" if verified else f"{name} -")
    return ", ".join(parts)


def _verdict(runs: Sequence[Run]) -> str:
    lines = []
    for temperature in TEMPERATURES:
        total, same = len(_select(runs, temperature, Mode.OFF)), identical(runs, temperature)
        word = "yes" if same == total else f"{same} of {total} (near-ties of float32 logits, see docs/design.md)"
        lines.append(f"temperature {temperature}: texts identical: {word}")
    return "\n".join(lines)
