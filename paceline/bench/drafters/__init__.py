"""``bench drafters``: every kind of drafter alone and some together, on real code, in virtual time.

The target is the embedded one, or *replay*: a script that says the real text, as a larger model might. Sessions run one
after the other through the same drafters, which keep what they learn; "again" asks for the same once more.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import cast

import torch
from rich.progress import track
from tokenizers import Tokenizer

from drafter_service.drafters.base import DraftKind
from drafter_service.session import DraftSession
from paceline.bench.drafters.crews import ABLATIONS, COMBINED, CREWS, Makers
from paceline.bench.drafters.replay import ReplayTarget
from paceline.bench.drafters.texts import KINDS, Task, tasks
from paceline.bench.report import Report
from paceline.bench.virtual import Times, VirtualCluster
from paceline.embedded import TARGET
from paceline.engine.runner import ModelRunner
from paceline.messages import OpenSession, OverlapStatistics
from paceline.settings import setting
from paceline.speculation.fields import require
from paceline.speculation.noise import noise_key
from paceline.speculation.policy import Mode, SpeculationParameters
from paceline.speculation.sampling import SamplingParameters

TIMES = Times(step=0.02, draft=0.004, rtt=0.0, lookup=0.0005)
SPECULATION = SpeculationParameters(max_draft_nodes=32, draft_depth=16, draft_width=4)
TARGETS = ("embedded", "replay")
ROUNDS = ("first", "again")
Timed = dict[str, float]


@dataclass(frozen=True)
class DraftersBench:
    """Each kind of drafter on held-out code, edits and far calls."""

    texts: int = setting("texts of each kind", 4)
    tokens: int = setting("tokens to go on with", 128)
    kinds: tuple[str, ...] = setting("kinds of text, separated by commas", tuple(KINDS))
    crews: tuple[str, ...] = setting("drafters, joined by +, separated by commas; default: all", ())
    json: Path | None = setting("also write every row to this file", None)

    def __post_init__(self) -> None:
        for kind in self.kinds:
            require(kind in KINDS, "kinds", kind, f"one of {', '.join(KINDS)}")
        for crew in self.crews:
            known = (*CREWS, *ABLATIONS)
            require(crew in known, "crews", crew, f"one of {', '.join(known)}")
        for field in ("texts", "tokens"):
            require(getattr(self, field) >= 1, field, getattr(self, field), "at least 1")


def run(bench: DraftersBench) -> None:
    torch.set_num_threads(1)
    report = Report("drafters", {**asdict(bench), "times": asdict(TIMES)})
    report.parameters.pop("json")
    tokenizer, makers = Tokenizer.from_file(str(TARGET / "tokenizer.json")), Makers()
    model = ModelRunner.load(TARGET, cache_tokens=1 << 14)
    names = ("off", *(bench.crews or (*CREWS, *ABLATIONS)))
    cells = [(kind, crew) for kind in bench.kinds for crew in names]
    found = {kind: tasks(kind, tokenizer, bench.texts, bench.tokens) for kind in bench.kinds}
    own: dict[tuple[object, ...], list[int]] = {}
    for kind, crew in track(cells, console=report.console, transient=True):
        for target in TARGETS:
            for temperature in (0.0,) if target == "replay" else (0.0, 0.8):
                runner = model if target == "embedded" else cast("ModelRunner", ReplayTarget(model, found[kind]))
                world = World(runner, makers.crew(crew), bench.tokens)
                for round_ in ROUNDS:
                    row = {"text": kind, "target": target, "temperature": temperature, "round": round_}
                    seen = [world.answer(task, temperature, seed=ROUNDS.index(round_)) for task in found[kind]]
                    texts = [tokens for tokens, _ in seen]
                    for index, tokens in enumerate(texts):
                        own.setdefault((*row.values(), index), tokens)
                    wrong = sum(own[(*row.values(), index)] != tokens for index, tokens in enumerate(texts))
                    report.add(
                        **row, crew=crew, mismatches=wrong, **_figures([o for _, o in seen], world.take_seconds())
                    )
    _show(report, names)
    report.finish(bench.json, **_results(report))


class World:
    """A target with drafters that stay from session to session."""

    def __init__(self, runner: ModelRunner, kinds: Sequence[DraftKind], tokens: int) -> None:
        self._seconds: Timed = {}
        for kind in kinds:
            _time(kind, self._seconds)
        self._cluster, self._tokens, self._drafts = VirtualCluster(runner, kinds, TIMES), tokens, bool(kinds)

    def answer(self, task: Task, temperature: float, seed: int) -> tuple[list[int], OverlapStatistics]:
        """The text and how it came about."""
        sampling = SamplingParameters(max_tokens=self._tokens, temperature=temperature, ignore_eos=True)
        mode = Mode.OVERLAPPED if self._drafts else Mode.OFF
        name = f"s{self._cluster.now}"
        opening = OpenSession(
            name, 1, task.prompt, len(task.prompt), sampling, replace(SPECULATION, mode=mode),
            noise_key(seed, 0, task.prompt), b"bench",
        )  # fmt: skip
        told = self._cluster.run([opening])
        return told.tokens.pop(name), told.overlap.pop(name)

    def take_seconds(self) -> Timed:
        """What the drafters have computed since the last time, in real seconds."""
        taken = dict(self._seconds)
        self._seconds.clear()
        return taken


def _time(kind: DraftKind, seconds: Timed) -> None:
    def timed(grow: Callable[[Sequence[DraftSession]], None]) -> Callable[[Sequence[DraftSession]], None]:
        def call(sessions: Sequence[DraftSession]) -> None:
            started = time.perf_counter()
            grow(sessions)
            seconds[kind.name] = seconds.get(kind.name, 0.0) + time.perf_counter() - started

        return call

    kind.grow = timed(kind.grow)  # type: ignore[method-assign,assignment]


def _figures(overlaps: Sequence[OverlapStatistics], seconds: Timed) -> dict[str, object]:
    steps, accepted = (sum(getattr(o, name) for o in overlaps) for name in ("steps", "accepted_nodes"))
    verified, waited = sum(o.verified_nodes for o in overlaps), sum(o.verifier_wait_seconds for o in overlaps)
    emitted = accepted + steps
    unique: dict[str, int] = {}
    for statistics_ in (d for o in overlaps for d in o.drafters):
        unique[statistics_.drafter_id] = unique.get(statistics_.drafter_id, 0) + statistics_.uniquely_accepted
    return {
        "tau": emitted / steps,
        "acceptance": accepted / verified if verified else 0.0,
        "unique": {name: count / emitted for name, count in unique.items()},
        "draft_us_per_token": {name: 1e6 * spent / emitted for name, spent in seconds.items()},
        "tokens_per_second": emitted / (steps * TIMES.step + waited),
    }


def _show(report: Report, names: Sequence[str]) -> None:
    columns = [
        (f"{kind}, {target}, {temperature:g}", {"text": kind, "target": target, "temperature": temperature})
        for kind, target, temperature in dict.fromkeys(
            (row["text"], row["target"], row["temperature"]) for row in report.rows
        )
    ]
    lines = []
    for crew in names:
        cells = []
        for _, where in columns:
            first, again = (report.median("tau", crew=crew, round=round_, **where) for round_ in ROUNDS)
            cells.append(f"{first:.2f} {again:.2f}")
        lines.append([crew, *cells])
    report.table("τ, asked first and again", ["drafters", *(title for title, _ in columns)], lines)


def _results(report: Report) -> dict[str, float]:
    """τ of each kind alone where it does best at temperature 0.8; the combination against the best of its members."""
    warm = [row for row in report.rows if row["temperature"] > 0]
    alone = {
        f"tau_{crew}": max((row["tau"] for row in warm if row["crew"] == crew), default=float("nan"))
        for crew in CREWS
        if "+" not in crew
    }
    ratios = []
    for row in (row for row in report.rows if row["crew"] == COMBINED):
        where = {name: row[name] for name in ("text", "target", "temperature", "round")}
        rivals = [r["tokens_per_second"] for member in COMBINED.split("+") for r in report.select(crew=member, **where)]
        if rivals:
            ratios.append(row["tokens_per_second"] / max(rivals))
    combined = statistics.median(ratios) if ratios else float("nan")
    worst = min(ratios, default=float("nan"))
    mismatches = float(sum(row["mismatches"] for row in report.rows))
    return {**alone, "combined_vs_best": combined, "combined_worst": worst, "mismatches": mismatches}
