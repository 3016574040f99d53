"""``bench accelerator``: target and draft as processes that share one accelerator, in the shapes of real models.

What steps cost is real. The weights are random, so nothing would ever be accepted: acceptance is synthetic
(``paceline/emulation.py``), and no figure here says how well a draft guesses. Processes on one GPU take turns by time
slices unless CUDA's multi-process service (MPS) runs; the weights are written below ``TMPDIR`` and removed at the end.
"""

from __future__ import annotations

import asyncio
import shutil
import statistics
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from rich.progress import track

from paceline.bench.decode import encoded_prompts
from paceline.bench.random_weights import PAIRS, write_random
from paceline.bench.report import Report, Row
from paceline.client import GatewayClient
from paceline.cluster.local import LocalCluster
from paceline.cluster.topology import DrafterPool, ModelRoute, Topology, VerifierPool
from paceline.emulation import SYNTHETIC, SyntheticAcceptance
from paceline.engine.device import device_name, find_device
from paceline.engine.runner import DTYPES
from paceline.messages import Completion, Generate
from paceline.process import run_async
from paceline.settings import setting
from paceline.speculation.fields import require
from paceline.speculation.policy import Mode, SpeculationParameters
from paceline.speculation.sampling import SamplingParameters

MODES = (Mode.OFF, Mode.LOCKSTEP, Mode.OVERLAPPED)
TEMPERATURE = 0.8
START_TIMEOUT_SECONDS = 1800.0
"""Reading, hashing and moving 19 GB."""


@dataclass(frozen=True)
class AcceleratorBench:
    """Tokens per second of off, lockstep and overlapped on an accelerator: random weights, synthetic acceptance."""

    device: str = setting("torch device that target and draft share", "cuda")
    dtype: str = setting("float32, bfloat16 or float16", "bfloat16")
    shape: str = setting("8b: Llama 3 8B with Llama 3.2 1B, 19 GB in TMPDIR; tiny: to try the script on a CPU", "8b")
    acceptance: str = setting("synthetic: a node's likeliest child is accepted so often, by depth", "0.8,0.7,0.6,0.5")
    batches: tuple[str, ...] = setting("concurrent requests, separated by commas", ("1", "8", "32"))
    max_tokens: int = setting("tokens per request", 128)
    repeats: int = setting("measurements of each cell, interleaved; medians are reported", 3)
    json: Path | None = setting("also write every row to this file", None)

    def __post_init__(self) -> None:
        require(self.dtype in DTYPES, "dtype", self.dtype, f"one of {', '.join(DTYPES)}")
        require(self.shape in PAIRS, "shape", self.shape, f"one of {', '.join(PAIRS)}")
        require(bool(self.acceptance), "acceptance", self.acceptance, "rates: random weights agree on nothing")
        SyntheticAcceptance.parse(self.acceptance, "acceptance")
        whole = bool(self.batches) and all(batch.isdigit() and int(batch) > 0 for batch in self.batches)
        require(whole, "batches", ",".join(self.batches), "whole numbers above 0")
        for field in ("max_tokens", "repeats"):
            require(getattr(self, field) >= 1, field, getattr(self, field), "at least 1")


def run(bench: AcceleratorBench) -> None:
    """Raises ``FieldError`` for a device that is not there."""
    device, (target, draft) = find_device(bench.device), PAIRS[bench.shape]
    report = Report("accelerator", asdict(bench))
    report.parameters |= {
        "acceptance": f"{SYNTHETIC}: {bench.acceptance}", "weights": f"random: {target.name}, {draft.name}",
        "device_name": device_name(device), "temperature": TEMPERATURE,
    }  # fmt: skip
    report.parameters.pop("json")
    batches = [int(batch) for batch in bench.batches]
    with tempfile.TemporaryDirectory(prefix="paceline-random-") as directory:
        paths = _write(Path(directory), bench.shape, report)
        run_async(_measure(report, bench, paths, batches))
    _show(report, batches)
    ratios = {f"overlapped_vs_off_{batch}": _ratio(report, Mode.OVERLAPPED, batch) for batch in batches}
    ratios[f"lockstep_vs_off_{batches[0]}"] = _ratio(report, Mode.LOCKSTEP, batches[0])
    report.finish(bench.json, **ratios)


def _write(directory: Path, shape: str, report: Report) -> tuple[Path, Path]:
    needed, free = sum(model.size_bytes for model in PAIRS[shape]), shutil.disk_usage(directory).free
    require(needed < free, "TMPDIR", str(directory.parent), f"{needed / 1e9:.0f} GB free, not {free / 1e9:.0f}")
    target, draft = PAIRS[shape]
    with report.console.status(f"writing {needed / 1e9:.1f} GB of random weights"):
        return write_random(directory / "target", target, seed=1), write_random(directory / "draft", draft, seed=2)


async def _measure(report: Report, bench: AcceleratorBench, paths: tuple[Path, Path], batches: Sequence[int]) -> None:
    """All modes in one fleet: one that does not draft leaves the drafter idle."""
    target, draft = map(str, paths)
    verifier = VerifierPool(device=bench.device, dtype=bench.dtype, emulate_acceptance=bench.acceptance)
    topology = Topology(
        models=(ModelRoute("random", target, "verifier", ("draft",)),),
        verifiers={"verifier": verifier},
        drafters={"draft": DrafterPool("model", draft, device=bench.device, dtype=bench.dtype)},
    )
    prompts = encoded_prompts(paths[0], max(batches))
    rounds = [(repeat, batch, mode) for repeat in range(-1, bench.repeats) for batch in batches for mode in MODES]
    cluster = LocalCluster(topology, start_timeout_seconds=START_TIMEOUT_SECONDS)
    async with cluster, GatewayClient(cluster.gateway_address) as client:
        for repeat, batch, mode in track(rounds, console=report.console, transient=True):
            row = await _together(client, prompts[:batch], mode, bench.max_tokens, seed=1000 + repeat)
            if repeat >= 0:  # the first round warms up
                report.add(mode=mode.value, batch=batch, repeat=repeat, **row)


async def _together(
    client: GatewayClient, prompts: Sequence[Sequence[int]], mode: Mode, max_tokens: int, seed: int
) -> Row:
    """All prompts at the same time; prefill is part of the seconds."""

    async def one(prompt: Sequence[int]) -> Completion:
        sampling = SamplingParameters(max_tokens=max_tokens, temperature=TEMPERATURE, ignore_eos=True)
        request = Generate(
            token_ids=tuple(prompt), sampling=sampling, speculation=SpeculationParameters(mode=mode), seed=seed
        )
        chunks = [chunk async for chunk in client.generate(request)]
        completion = chunks[-1].completion
        assert completion is not None, "a stream that ends without an error ends with its completion"
        return completion

    started = time.perf_counter()
    done = await asyncio.gather(*(one(prompt) for prompt in prompts))
    seconds = time.perf_counter() - started
    return {
        "seconds": seconds,
        "tokens_per_second": sum(completion.usage.completion_tokens for completion in done) / seconds,
        "mean_accepted_length": statistics.mean(completion.overlap.mean_accepted_length for completion in done),
        "exactness": done[0].exactness,
    }


def _ratio(report: Report, mode: Mode, batch: int) -> float:
    over, under = {"mode": mode.value, "batch": batch}, {"mode": Mode.OFF.value, "batch": batch}
    return report.ratio("tokens_per_second", over, under)


def _show(report: Report, batches: Sequence[int]) -> None:
    lines = []
    for mode in MODES:
        for batch in batches:
            cell = {"mode": mode.value, "batch": batch}
            speed, length = (report.median(name, **cell) for name in ("tokens_per_second", "mean_accepted_length"))
            ratio = _ratio(report, mode, batch)
            lines.append([mode.value, str(batch), f"{speed:.1f}", f"{ratio:.2f}", f"{length:.2f}"])
    said = report.parameters
    title = f"{said['acceptance']}; {said['weights']}; {said['device_name']}, {said['dtype']}"
    report.table(title, ("mode", "batch", "tokens/s", "to off", "τ"), lines)
