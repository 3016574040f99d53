"""Cells in virtual time: the services' own logic on a clock of events (``bench/virtual.py``)."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from drafter_service.drafters.model import ModelDrafter
from paceline.bench.decode import encoded_prompts
from paceline.bench.overlap.policies import POLICIES, TREE, options
from paceline.bench.report import Report
from paceline.bench.virtual import Times, Told, VirtualCluster
from paceline.embedded import DRAFT, TARGET
from paceline.engine.runner import ModelRunner
from paceline.messages import OpenSession
from paceline.speculation.noise import noise_key
from paceline.speculation.policy import Mode, SpeculationParameters
from paceline.speculation.sampling import SamplingParameters

DRAFT_SECONDS = 0.004
SEED, PROMPTS = 5, 4
SLOWED, SLOWED_AFTER_SECONDS = 20, 2.0


@dataclass(frozen=True)
class Cell:
    """Times in seconds; ``rtt`` in steps."""

    step: float
    rtt: float
    sessions: int
    temperature: float

    @property
    def times(self) -> Times:
        return Times(self.step, DRAFT_SECONDS, self.rtt * self.step)


class VirtualCells:
    """Measures cells with the embedded pair."""

    def __init__(self, max_tokens: int) -> None:
        self._target, self._draft = (ModelRunner.load(path, cache_tokens=1 << 14) for path in (TARGET, DRAFT))
        self._max_tokens = max_tokens

    def measure(self, cell: Cell, report: Report) -> None:
        """Adds a row for each policy and length."""
        for policy, option, speculation in options():
            cluster = self._cluster(cell, speculation)
            speeds, waits, lengths = [], [], []
            for first in range(0, max(PROMPTS, cell.sessions), cell.sessions):
                openings = _openings(first, cell, speculation, self._max_tokens)
                told = cluster.run(openings)
                for name in (opening.session_id for opening in openings):
                    at, overlap = told.at[name], told.overlap[name]
                    speeds.append((len(told.tokens[name]) - 1) / (at[-1] - at[0]))
                    waits.append(overlap.verifier_wait_seconds / overlap.steps)
                    lengths.append(overlap.mean_accepted_length)
            report.add(
                clock="virtual", step=cell.step, rtt=cell.rtt, sessions=cell.sessions, temperature=cell.temperature,
                policy=policy, option=option, tokens_per_second=statistics.mean(speeds) * cell.sessions,
                wait=statistics.mean(waits), mean_accepted_length=statistics.mean(lengths), valid=True,
            )  # fmt: skip

    def slowed_vs_off(self, cells: Iterable[Cell]) -> float:
        """The worst cell's speed, times that of the target alone, after its drafter has become 20 times slower."""
        return min(statistics.median(self._slowed(cell, first) for first in range(PROMPTS)) for cell in cells)

    def _slowed(self, cell: Cell, first: int) -> float:
        (speculation,) = POLICIES[TREE]
        cluster = self._cluster(cell, speculation)

        def slow_down() -> None:
            cluster.times = replace(cluster.times, draft=SLOWED * DRAFT_SECONDS)

        cluster.at(SLOWED_AFTER_SECONDS, slow_down)
        (opening,) = _openings(first, replace(cell, sessions=1), speculation, max_tokens=512)
        return _steps_saved(cluster.run([opening]), opening.session_id, cell.step)

    def _cluster(self, cell: Cell, speculation: SpeculationParameters) -> VirtualCluster:
        kinds = [] if speculation.mode is Mode.OFF else [ModelDrafter(self._draft)]
        return VirtualCluster(self._target, kinds, cell.times)


def _steps_saved(told: Told, name: str, step: float) -> float:
    """Tokens since the drafter has been slow, over what the target alone would have said in that time."""
    tokens = sum(count for at, count in zip(told.at[name], told.counts[name], strict=True) if at > SLOWED_AFTER_SECONDS)
    return tokens * step / (told.at[name][-1] - SLOWED_AFTER_SECONDS)


def _openings(first: int, cell: Cell, speculation: SpeculationParameters, max_tokens: int) -> list[OpenSession]:
    sampling = SamplingParameters(max_tokens=max_tokens, temperature=cell.temperature, ignore_eos=True)
    prompts: Sequence[Sequence[int]] = encoded_prompts(TARGET, first + cell.sessions)[first:]
    return [
        OpenSession(
            f"s{index}", 1, tuple(prompt), len(prompt), sampling, speculation, noise_key(SEED, 0, prompt), b"bench"
        )
        for index, prompt in enumerate(prompts, first)
    ]
