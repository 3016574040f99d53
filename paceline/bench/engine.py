"""``bench engine``: what a forward costs, beside Transformers' own and beside the floor that the machine sets."""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from rich.progress import track
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, DynamicCache
from transformers.utils.logging import disable_progress_bar

from paceline.bench.report import Report
from paceline.checkpoint import check_reference, resolve
from paceline.embedded import DRAFT, TARGET
from paceline.engine.batch import Rows
from paceline.engine.cache import ROOT
from paceline.engine.runner import ModelRunner, Numerics
from paceline.settings import setting
from paceline.speculation.fields import require

ROWS = (1, 2, 4, 8, 16, 32, 64)
SESSIONS = (1, 8, 32)
CONTEXT = 200
"""Tokens before the rows, in every session."""
FLOOR_SIZE = 1024
BURST = 7
"""Forwards in a row, of which the median counts: as in decoding, and so that no contender cools another's caches."""


@dataclass(frozen=True)
class EngineBench:
    """Times one forward over rows of several sessions: ours, deterministic, and Transformers' with its cache."""

    models: tuple[str, ...] = setting("checkpoints, separated by commas", (str(TARGET), str(DRAFT)))
    repeats: int = setting("measurements of each shape, interleaved; medians are reported", 30)
    threads: int = setting("compute threads; 0: all cores", 0)
    quick: bool = setting("fewer repeats, under a minute", False)
    json: Path | None = setting("also write every row to this file", None)

    def __post_init__(self) -> None:
        require(self.repeats >= 1, "repeats", self.repeats, "at least 1")
        for model in self.models:
            check_reference("models", model)


def shapes() -> list[tuple[int, int]]:
    """(rows, sessions), the rows shared out evenly."""
    return [(rows, sessions) for sessions in SESSIONS for rows in ROWS if rows >= sessions]


def run(bench: EngineBench) -> None:
    torch.set_num_threads(bench.threads or os.cpu_count() or 1)
    disable_progress_bar()  # type: ignore[no-untyped-call]
    repeats = min(bench.repeats, 5) if bench.quick else bench.repeats
    report = Report("engine", {**asdict(bench), "models": [Path(m).name for m in bench.models], "context": CONTEXT})
    report.parameters.pop("json")
    for reference in bench.models:
        _measure(report, resolve(reference), repeats)
    first = Path(bench.models[0]).name
    ours = {"model": first, "engine": "paceline", "sessions": 1}
    exact = {**ours, "engine": "deterministic"}
    report.finish(
        bench.json,
        step1_vs_transformers=report.ratio(
            "seconds", {**ours, "rows": 1}, {**ours, "engine": "transformers", "rows": 1}
        ),
        step16_vs_step1=report.ratio("seconds", {**ours, "rows": 16}, {**ours, "rows": 1}),
        step1_vs_floor=report.ratio("seconds", {**ours, "rows": 1}, {**ours, "engine": "floor", "rows": 1}),
        deterministic_step1=report.ratio("seconds", {**exact, "rows": 1}, {**ours, "rows": 1}),
        deterministic_step16=report.ratio("seconds", {**exact, "rows": 16}, {**ours, "rows": 16}),
    )


def _measure(report: Report, path: Path, repeats: int) -> None:
    name = path.name
    for rows, sessions in track(shapes(), description=name, console=report.console, transient=True):
        contenders: dict[str, Callable[[], float]] = {
            "paceline": _ours(path, rows, sessions, Numerics.STANDARD),
            "deterministic": _ours(path, rows, sessions, Numerics.DETERMINISTIC),
            "transformers": _theirs(path, rows, sessions),
            "floor": _floor(path, rows),
        }
        for contender in contenders.values():
            contender()
        for repeat in range(repeats):
            for engine, contender in contenders.items():
                row = {"model": name, "engine": engine, "rows": rows, "sessions": sessions, "repeat": repeat}
                report.add(**row, seconds=statistics.median(contender() for _ in range(BURST)))
    _show(report, name)


def _ours(path: Path, rows: int, sessions: int, numerics: Numerics) -> Callable[[], float]:
    runner = ModelRunner.load(path, cache_tokens=sessions * (CONTEXT + rows + 32), numerics=numerics)
    each = rows // sessions
    sequences = [runner.open(max_tail=each) for _ in range(sessions)]
    for sequence in sequences:
        runner.prefill(sequence, list(range(1, CONTEXT + 1)))
        sequence.reserve(CONTEXT + each)
    parents = [ROOT, *range(each - 1)]

    def step() -> float:
        started = time.perf_counter()
        runner.forward([Rows(sequence, [7] * each, parents) for sequence in sequences])
        seconds = time.perf_counter() - started
        for sequence in sequences:
            sequence.keep((), commit=0)
        return seconds

    return step


def _theirs(path: Path, rows: int, sessions: int) -> Callable[[], float]:
    model: Any = AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32)
    cache = DynamicCache(config=model.config)
    each = rows // sessions
    context = torch.arange(1, CONTEXT + 1).expand(sessions, -1)
    with torch.inference_mode():
        model(context, past_key_values=cache, use_cache=True)
    tokens = torch.full((sessions, each), 7)

    def step() -> float:
        with torch.inference_mode():
            started = time.perf_counter()
            model(tokens, past_key_values=cache, use_cache=True)
            seconds = time.perf_counter() - started
            cache.crop(-each)
        return seconds

    return step


def _floor(path: Path, rows: int) -> Callable[[], float]:
    """The larger of reading the weights once and of computing the products, at rates measured now."""
    parameters = _multiplied(path)
    weights = torch.ones(parameters)
    left, right = torch.ones(FLOOR_SIZE, FLOOR_SIZE), torch.ones(FLOOR_SIZE, FLOOR_SIZE)

    def floor() -> float:
        started = time.perf_counter()
        weights.sum()
        reading = time.perf_counter() - started
        started = time.perf_counter()
        torch.mm(left, right)
        rate = 2 * FLOOR_SIZE**3 / (time.perf_counter() - started)
        return max(reading, 2 * parameters * rows / rate)

    return floor


def _multiplied(path: Path) -> int:
    """Weights that every row is multiplied by: all matrices, an embedding only where it is the head, too."""
    state = {name: tensor for file in path.glob("*.safetensors") for name, tensor in load_file(file).items()}
    head = "lm_head.weight" in state
    return sum(w.numel() for name, w in state.items() if w.dim() == 2 and not (head and "embed_tokens" in name))


def _show(report: Report, model: str) -> None:
    lines = []
    for rows, sessions in shapes():
        where = {"model": model, "rows": rows, "sessions": sessions}
        median = {
            engine: report.median("seconds", engine=engine, **where) * 1e3
            for engine in ("paceline", "deterministic", "transformers", "floor")
        }
        lines.append(
            [
                str(sessions), str(rows), *(f"{median[engine]:.2f}" for engine in median),
                f"{median['paceline'] / median['transformers']:.2f}",
            ]
        )  # fmt: skip
    columns = ("sessions", "rows", "paceline", "deterministic", "transformers", "floor", "ours / theirs")
    report.table(f"{model}: milliseconds per forward after {CONTEXT} tokens", columns, lines)
