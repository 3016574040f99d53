"""``bench lookup``: what a tree of a look-up drafter costs, and what a full memory of ``suffix`` takes."""

from __future__ import annotations

import itertools
import math
import statistics
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.progress import track
from tokenizers import Tokenizer

from drafter_service.drafters.datastore import DatastoreDrafter
from drafter_service.drafters.lookup import MAX_NODES, LookupDrafter
from drafter_service.drafters.ngram import NgramDrafter
from drafter_service.drafters.recycling import RecyclingDrafter
from drafter_service.drafters.suffix import SuffixDrafter
from drafter_service.drafters.trigram import TrigramDrafter
from drafter_service.memory import SuffixMemory
from paceline.bench.drafters.alone import session_alone
from paceline.bench.report import Report
from paceline.embedded import TARGET
from paceline.settings import setting
from paceline.speculation.fields import require
from paceline.speculation.policy import SpeculationParameters
from paceline.training.corpus import standard_library

CONTEXT = 4096
SPECULATION = SpeculationParameters(max_draft_nodes=MAX_NODES, draft_depth=32, draft_width=4)
TEXT_TOKENS = 2000
"""Of a finished session that suffix remembers, about."""


@dataclass(frozen=True)
class LookupBench:
    """Microseconds per tree of 32 nodes of the look-up drafters, and bytes and seconds of a large memory."""

    memory_tokens: int = setting("tokens that suffix and datastore hold", 10_000_000)
    texts: int = setting("held-out texts of 4,096 tokens to draft for", 4)
    tokens: int = setting("tokens that each goes on for, a tree for each", 128)
    json: Path | None = setting("also write every row to this file", None)

    def __post_init__(self) -> None:
        for field in ("memory_tokens", "texts", "tokens"):
            require(getattr(self, field) >= 1, field, getattr(self, field), "at least 1")


def run(bench: LookupBench) -> None:
    torch.set_num_threads(1)
    report = Report("lookup", asdict(bench))
    report.parameters.pop("json")
    tokenizer = Tokenizer.from_file(str(TARGET / "tokenizer.json"))
    texts = list(itertools.islice(_held_out(tokenizer, CONTEXT + bench.tokens), bench.texts))
    with tempfile.TemporaryDirectory(prefix="paceline-lookup-") as directory:
        memory, about = _memory(bench.memory_tokens, tokenizer, Path(directory) / "memory")
        kinds: dict[str, LookupDrafter[Any]] = {
            "ngram": NgramDrafter(),
            "recycling": RecyclingDrafter(),
            "trigram": TrigramDrafter(),
            "suffix": SuffixDrafter(memory),
            "suffix_unbounded": SuffixDrafter(memory, max_spec_factor=math.inf, min_token_prob=0.0),
            "datastore": DatastoreDrafter(Path(directory) / "memory", ""),
        }
        for name, kind in track(kinds.items(), console=report.console, transient=True):
            for text in texts:
                for seconds, nodes in _trees(kind, text):
                    report.add(kind=name, us=1e6 * seconds, nodes=nodes)
        memory.stop()
    _finish(report, bench, list(kinds), about)


def _held_out(tokenizer: Tokenizer, tokens: int) -> Iterator[list[int]]:
    """The beginnings of held-out files that are long enough."""
    for document in standard_library():
        ids = tokenizer.encode(document.text).ids if document.held_out else []
        if len(ids) >= tokens:
            yield ids[:tokens]


def _trees(kind: LookupDrafter[Any], text: Sequence[int]) -> Iterator[tuple[float, int]]:
    """Seconds and new nodes of each growth, token by token after the first ``CONTEXT``."""
    session = session_alone(text[:CONTEXT], SPECULATION)
    kind.open(session)
    for token_id in text[CONTEXT:]:
        session.tree.clear()
        started = time.perf_counter()
        kind.grow([session])
        yield time.perf_counter() - started, session.tree.size
        session.extend((token_id,))
        kind.advance(session)
    kind.close(session)


def _memory(tokens: int, tokenizer: Tokenizer, directory: Path) -> tuple[SuffixMemory, dict[str, float]]:
    """A memory of the library's files that were not held out, saved there; what it takes."""
    memory, texts = SuffixMemory(2 * tokens, tokens), list(_remembered(tokenizer, tokens))
    slowest, started = 0.0, time.perf_counter()
    for text in texts:
        before = time.perf_counter()
        memory.remember("", text)
        slowest = max(slowest, time.perf_counter() - before)
    memory.settle()
    fill, segments = time.perf_counter() - started, memory.segments("")
    memory.save(directory, "")
    loaded, started = SuffixMemory(2 * tokens, tokens), time.perf_counter()
    loaded.load(directory, "")
    about = {
        "bytes_per_token": sum(segment.nbytes for segment in segments) / sum(map(len, segments)),
        "load_ms": 1e3 * (time.perf_counter() - started),
        "fill_seconds": fill,
        "slowest_remember_ms": 1e3 * slowest,
        "segments": float(len(segments)),
    }
    loaded.stop()
    return memory, about


def _remembered(tokenizer: Tokenizer, tokens: int) -> Iterator[list[int]]:
    """Pieces of files; when all have been told, once more with other tokens for each, so that nothing comes twice."""
    texts = (tokenizer.encode(document.text).ids for document in standard_library() if not document.held_out)
    pieces: list[list[int]] = []
    for piece in (text[start : start + TEXT_TOKENS] for text in texts for start in range(0, len(text), TEXT_TOKENS)):
        pieces.append(piece)
        tokens -= len(piece)
        yield piece
        if tokens <= 0:
            return
    for seed in itertools.count():
        table = np.random.default_rng(seed).permutation(tokenizer.get_vocab_size())
        for piece in pieces:
            tokens -= len(piece)
            yield table[piece].tolist()
            if tokens <= 0:
                return


def _finish(report: Report, bench: LookupBench, kinds: Sequence[str], about: dict[str, float]) -> None:
    lines, costs = [], {}
    for kind in kinds:
        rows = report.select(kind=kind)
        whole, any_size = (report.median("us", kind=kind, **where) for where in ({"nodes": MAX_NODES}, {}))
        costs[f"us_{kind}"] = any_size if math.isnan(whole) else whole
        nodes, share = statistics.mean(r["nodes"] for r in rows), statistics.mean(r["nodes"] == MAX_NODES for r in rows)
        lines.append([kind, f"{whole:.0f}", f"{share:.0%}", f"{any_size:.0f}", f"{nodes:.1f}"])
    columns = ("drafter", f"µs per tree of {MAX_NODES}", "so many are", "µs per tree of any size", "nodes of these")
    report.table(f"trees after {CONTEXT} tokens", columns, lines)
    report.table(
        f"a memory of {bench.memory_tokens:,} tokens", tuple(about), [[f"{value:.2f}" for value in about.values()]]
    )
    report.finish(bench.json, **costs, **about)
