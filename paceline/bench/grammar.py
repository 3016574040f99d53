"""``bench grammar``: JSON schemas of varied difficulty, with the embedded pair.

Is all that is finished valid, is it the same text with and without speculation, and how much sooner is it there?
"""

from __future__ import annotations

import itertools
import json
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.progress import track

from paceline.bench.report import Report, Row
from paceline.client import GatewayClient
from paceline.cluster.local import LocalCluster
from paceline.embedded import pair_topology
from paceline.errors import PacelineError
from paceline.messages import Completion, FinishReason, Generate
from paceline.process import run_async
from paceline.settings import setting
from paceline.speculation.fields import require
from paceline.speculation.grammar import Grammar, GrammarKind
from paceline.speculation.policy import Mode, SpeculationParameters
from paceline.speculation.sampling import SamplingParameters

SCHEMAS = Path(__file__).with_name("schemas.jsonl")
PROMPT = "import json\n\nrecord = "
WAYS = {
    "alone": SpeculationParameters(mode=Mode.OFF),
    "forced": SpeculationParameters(mode=Mode.OVERLAPPED, drafters=()),
    "drafted": SpeculationParameters(mode=Mode.OVERLAPPED),
}
"""Constrained all of them: the target alone; with what the grammar forces and no drafter; with the pair's drafters."""


@dataclass(frozen=True)
class GrammarBench:
    """Constrained decoding with and without speculation."""

    schemas: int = setting("schemas, spread over the classes; 0: all 60", 0)
    seeds: int = setting("texts for each schema", 5)
    max_tokens: int = setting("tokens of a text, at most", 200)
    temperature: float = setting("0: greedy", 0.8)
    json: Path | None = setting("also write every row to this file", None)

    def __post_init__(self) -> None:
        require(self.schemas >= 0, "schemas", self.schemas, "0 (all) or more")
        for field in ("seeds", "max_tokens"):
            require(getattr(self, field) >= 1, field, getattr(self, field), "at least 1")


@dataclass(frozen=True)
class Task:
    """One schema of a class of difficulty."""

    difficulty: str
    number: int
    schema: dict[str, Any]

    def problem(self, text: str) -> str:
        """What is wrong with a finished text; empty: nothing."""
        from jsonschema import Draft202012Validator as Validator

        try:
            value = json.loads(text)
        except ValueError as error:
            return str(error)
        checker = Validator(self.schema, format_checker=Validator.FORMAT_CHECKER)
        return "; ".join(error.message for error in checker.iter_errors(value))


def tasks(count: int = 0) -> list[Task]:
    """The first ``count`` schemas, taken from each class in turn; 0: all."""
    lines = [json.loads(line) for line in SCHEMAS.read_text().splitlines()]
    found = [Task(line["class"], number, line["schema"]) for number, line in enumerate(lines)]
    classes = [list(group) for _, group in itertools.groupby(found, lambda task: task.difficulty)]
    turns = [task for turn in itertools.zip_longest(*classes) for task in turn if task is not None]
    return turns[:count] if count else turns


def run(bench: GrammarBench) -> None:
    report = Report("grammar", asdict(bench))
    report.parameters.pop("json")
    _check_validator()
    run_async(_fleet(report, bench))
    _finish(report, bench)


def _check_validator() -> None:
    try:
        import jsonschema  # noqa: F401 - only whether it is there
    except ImportError as error:
        raise PacelineError("bench grammar checks texts with jsonschema, which is not installed") from error


async def _fleet(report: Report, bench: GrammarBench) -> None:
    async with LocalCluster(pair_topology()) as cluster, GatewayClient(cluster.gateway_address) as client:
        for way in WAYS:  # a first text for each, to warm up
            await _text(client, bench, tasks(1)[0], way, 0)
        await measure(client, report, bench)


async def measure(client: GatewayClient, report: Report, bench: GrammarBench) -> None:
    """A row for each text that a fleet of the embedded pair makes."""
    jobs = list(itertools.product(tasks(bench.schemas), range(bench.seeds)))
    for task, seed in track(jobs, console=report.console, transient=True):
        for way in _in_turn(seed):
            row = await _text(client, bench, task, way, seed)
            report.add(**row, repeat=(task.number, seed))


def _in_turn(seed: int) -> Iterator[str]:
    """The ways to decode, each of them first in its turn."""
    names = list(WAYS)
    return itertools.islice(itertools.cycle(names), seed % len(names), seed % len(names) + len(names))


async def _text(client: GatewayClient, bench: GrammarBench, task: Task, way: str, seed: int) -> Row:
    grammar = Grammar(GrammarKind.JSON_SCHEMA, json.dumps(task.schema))
    sampling = SamplingParameters(bench.max_tokens, bench.temperature, grammar=grammar)
    asked = Generate(text=PROMPT, sampling=sampling, speculation=WAYS[way], seed=seed)
    token_ids, text, done = await _collect(client.generate(asked))
    finished = done.finish_reason is FinishReason.STOP
    emitted = len(token_ids) - 1
    return {
        "way": way,
        "difficulty": task.difficulty,
        "schema": task.number,
        "seed": seed,
        "token_ids": token_ids,
        "text": text,
        "finished": finished,
        "problem": task.problem(text) if finished else "",
        "emitted": emitted,
        "seconds": done.tpot_seconds * emitted,
        "tokens_per_second": 1 / done.tpot_seconds if done.tpot_seconds else 0.0,
        "mean_accepted_length": done.overlap.mean_accepted_length,
        "drafters": {item.drafter_id: (item.verified, item.accepted) for item in done.overlap.drafters},
    }


async def _collect(chunks: AsyncIterator[Any]) -> tuple[list[int], str, Completion]:
    token_ids, text, done = list[int](), "", None
    async for chunk in chunks:
        token_ids += chunk.token_ids
        text, done = text + chunk.text, chunk.completion
    assert done is not None, "a stream that ends without an error ends with its completion"
    return token_ids, text, done


# -- what it amounts to ------------------------------------------------------------------------------------------------


def mismatches(report: Report) -> int:
    """Texts that differ from the target's alone."""
    alone = {row["repeat"]: row["token_ids"] for row in report.select(way="alone")}
    return sum(row["token_ids"] != alone[row["repeat"]] for row in report.rows)


def _speed(report: Report, **where: Any) -> float:
    """Tokens per second over all of these texts, decoding only."""
    rows = report.select(**where)
    seconds = max(sum(row["seconds"] for row in rows), 1e-9)
    return float(sum(row["emitted"] for row in rows) / seconds)


def _finish(report: Report, bench: GrammarBench) -> None:
    classes = [*dict.fromkeys(row["difficulty"] for row in report.rows)]
    lines = [_line(report, name, {"difficulty": name}) for name in classes]
    columns = (
        "class",
        "texts",
        "finished",
        "tokens",
        "alone",
        "forced",
        "drafted",
        "forced/alone",
        "drafted/alone",
        "τ",
    )
    report.table("tokens/s", columns, [*lines, _line(report, "all", {})])
    for row in report.rows:
        if row["problem"]:
            report.console.print(f"schema {row['schema']}, seed {row['seed']}: {row['problem']}: {row['text']}")
    alone = _speed(report, way="alone")
    report.finish(
        bench.json,
        texts=len(report.rows),
        finished=sum(row["finished"] for row in report.rows),
        invalid=sum(bool(row["problem"]) for row in report.rows),
        mismatches=mismatches(report),
        constrained_vs_alone=_speed(report, way="drafted") / alone,
        forced_vs_alone=_speed(report, way="forced") / alone,
    )


def _line(report: Report, name: str, where: dict[str, str]) -> Sequence[str]:
    rows, speeds = report.select(way="drafted", **where), [_speed(report, way=way, **where) for way in WAYS]
    tau = sum(row["mean_accepted_length"] for row in rows) / len(rows)
    return (
        name,
        str(len(rows)),
        f"{sum(row['finished'] for row in rows) / len(rows):.0%}",
        f"{sum(row['emitted'] for row in rows) / len(rows):.0f}",
        *(f"{speed:.0f}" for speed in speeds),
        *(f"{speed / speeds[0]:.2f}" for speed in speeds[1:]),
        f"{tau:.2f}",
    )
