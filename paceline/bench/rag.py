"""``bench rag``: what reading an excerpt of a long text saves a model drafter, and what it costs in acceptance.

Drafting is timed by itself: attaching to a long prompt, then growing while a real text goes on, verdict by verdict.
Acceptance is that of whole sessions in virtual time, on calls whose definitions stand far above them.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch
from rich.progress import track
from tokenizers import Tokenizer

from drafter_service.drafters.model import ModelDrafter
from drafter_service.drafters.rag import RagDrafter
from drafter_service.session import DraftSession
from paceline.bench.drafters import SPECULATION, World
from paceline.bench.drafters.alone import session_alone
from paceline.bench.drafters.texts import Task, tasks
from paceline.bench.report import Report
from paceline.embedded import DRAFT, TARGET
from paceline.engine.runner import ModelRunner
from paceline.settings import setting
from paceline.speculation.fields import require
from paceline.speculation.policy import NO_SCOPE
from paceline.training.corpus import standard_library

MODELS = {"0.9m": DRAFT, "8m": TARGET}
KINDS: dict[str, Callable[[ModelRunner], ModelDrafter]] = {
    "full": ModelDrafter,
    "rag": RagDrafter,
    "rag without retrieval": lambda runner: RagDrafter(runner, retrieval=False),
}
VERDICT_TOKENS, GROWTHS = 2, 4
"""A verdict brings so many tokens, after so many growths: about what the embedded pair does in ``bench drafters``."""
TIMED, PARTS = ("full", "rag"), ("attach", "growths", "seconds")


@dataclass(frozen=True)
class RagBench:
    """A model drafter on the whole text against the same model on an excerpt of it."""

    prompt: int = setting("tokens of the prompts that drafting is timed on", 3000)
    tokens: int = setting("tokens to go on with", 128)
    texts: int = setting("texts of each measurement", 4)
    repeats: int = setting("timings of each text, interleaved; medians of ratios are reported", 5)
    json: Path | None = setting("also write every row to this file", None)

    def __post_init__(self) -> None:
        for field in ("prompt", "tokens", "texts", "repeats"):
            require(getattr(self, field) >= 1, field, getattr(self, field), "at least 1")


def run(bench: RagBench) -> None:
    torch.set_num_threads(1)
    report = Report("rag", asdict(bench))
    report.parameters.pop("json")
    tokenizer = Tokenizer.from_file(str(TARGET / "tokenizer.json"))
    runners = {name: ModelRunner.load(path, cache_tokens=1 << 14) for name, path in MODELS.items()}
    for text, task in enumerate(track(list(_long(bench, tokenizer)), console=report.console, transient=True)):
        for repeat in range(-1, bench.repeats):
            for model, runner in runners.items():
                for kind in TIMED:
                    attach, growths = _draft(KINDS[kind](runner), task, runner.config.vocabulary_size)
                    if repeat >= 0:  # the first round warms up
                        row = {"attach": attach, "growths": growths, "seconds": attach + growths}
                        report.add(measured="time", model=model, kind=kind, repeat=(text, repeat), **row)
    _acceptance(report, runners, tasks("calls", tokenizer, bench.texts, bench.tokens), bench.tokens)
    _finish(report, bench)


def _long(bench: RagBench, tokenizer: Tokenizer) -> Iterator[Task]:
    """The beginnings of held-out files that are long enough."""
    found = 0
    for document in standard_library():
        ids = tokenizer.encode(document.text).ids if document.held_out and found < bench.texts else []
        if len(ids) >= bench.prompt + bench.tokens:
            found += 1
            yield Task(tuple(ids[: bench.prompt]), tuple(ids[bench.prompt : bench.prompt + bench.tokens]))


def _draft(kind: ModelDrafter, task: Task, vocabulary_size: int) -> tuple[float, float]:
    """Seconds until the prompt is read, and those of all growths while the text goes on."""
    alone = replace(SPECULATION, cache_scope=NO_SCOPE)  # or the prompt would be read only once
    session = session_alone(task.prompt, alone, vocabulary_size)
    started = time.perf_counter()
    kind.open(session)
    while not session.tree.size:
        _grow(kind, session)
    read = time.perf_counter()
    for start in range(0, len(task.continuation), VERDICT_TOKENS):
        for _ in range(GROWTHS):
            _grow(kind, session)
        session.extend(task.continuation[start : start + VERDICT_TOKENS])
        kind.advance(session)
    grown = time.perf_counter()
    kind.close(session)
    return read - started, grown - read


def _grow(kind: ModelDrafter, session: DraftSession) -> None:
    if session.may_grow and kind.growable(session):
        kind.grow([session])


def _acceptance(report: Report, runners: dict[str, ModelRunner], found: Sequence[Task], tokens: int) -> None:
    """Whole sessions of the pair: the target is the 8 M model, so as a draft it is only timed."""
    for name, make in KINDS.items():
        for temperature in (0.0, 0.8):
            world = World(runners["8m"], [make(runners["0.9m"])], tokens)
            for text, task in enumerate(found):
                _, overlap = world.answer(task, temperature, seed=0)
                acceptance = overlap.accepted_nodes / overlap.verified_nodes
                report.add(
                    measured="acceptance", kind=name, temperature=temperature, repeat=(text, temperature),
                    acceptance=acceptance, tau=overlap.mean_accepted_length,
                )  # fmt: skip


def _finish(report: Report, bench: RagBench) -> None:
    lines = []
    for model in MODELS:
        where = {"measured": "time", "model": model}
        cells = [f"{report.median(part, **where, kind=kind) * 1e3:.0f}" for kind in TIMED for part in PARTS]
        lines.append([model, *cells])
    title = f"milliseconds of drafting {bench.tokens} tokens after {bench.prompt}"
    report.table(title, ("model", *(f"{kind}: {part}" for kind in TIMED for part in PARTS)), lines)
    values = ("tau", "acceptance")
    lines = [
        [kind, *(f"{report.median(value, measured='acceptance', kind=kind):.3f}" for value in values)] for kind in KINDS
    ]
    report.table("calls: tokens per step, accepted per verified node", ("kind", *values), lines)

    def ratio(value: str, over: str, under: str, **where: str) -> float:
        return report.ratio(value, {**where, "kind": over}, {**where, "kind": under})

    report.finish(
        bench.json,
        rag_vs_full=ratio("seconds", "full", "rag", measured="time", model="0.9m"),
        rag_vs_full_8m=ratio("seconds", "full", "rag", measured="time", model="8m"),
        acceptance_ratio=ratio("acceptance", "rag", "full", measured="acceptance"),
        tau_ratio=ratio("tau", "rag", "full", measured="acceptance"),
    )
