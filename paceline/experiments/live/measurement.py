"""Measurement: a specification's workload asked of a fleet that is there, at what that fleet costs."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from paceline.bench.prompts import CODE_PROMPTS
from paceline.client import GatewayClient
from paceline.cluster.topology import Topology
from paceline.experiments.live.asking import Asking, Progress
from paceline.experiments.live.figures import Figures
from paceline.experiments.live.pricing import Drafting, Fleet, fleet_of
from paceline.experiments.results import Instrument, Row, System
from paceline.experiments.simulation.workload import Request, requests
from paceline.experiments.specification import Experiment
from paceline.experiments.sweeps import Value
from paceline.experiments.tables import Prices
from paceline.speculation.fields import FieldError, every_error, require
from paceline.speculation.policy import NO_SCOPE, Mode, SpeculationParameters

MEASURED = (System.TREES, System.LOOKUPS, System.COLOCATED, System.ALONE)
MODES = {System.ALONE: Mode.OFF, System.COLOCATED: Mode.LOCKSTEP}
VARIED = ("workload.", "slo.", "seed")
"""Beginnings of keys that can be swept on a fleet as it is."""
IN_TURN = "draft and target in turn, with the fleet's own drafters where they are: not on the target's card"
WARM_UP_TOKENS = 16


@dataclass(frozen=True)
class Texts:
    """Prompts asked in turn. Their lengths are their own: a client has no tokenizer."""

    prompts: tuple[str, ...] = CODE_PROMPTS
    source: str = "paceline/bench/prompts.py"

    @classmethod
    def read(cls, file: Path) -> Texts:
        """One a line."""
        try:
            lines = tuple(line for line in file.read_text(encoding="utf-8").splitlines() if line.strip())
        except (OSError, UnicodeDecodeError) as error:
            raise FieldError("prompts", str(file), f"a file that can be read ({error})") from error
        require(bool(lines), "prompts", str(file), "a file with a prompt on each line")
        return cls(lines, file.name)


@dataclass(frozen=True)
class Measuring:
    """A workload, put to a fleet."""

    client: GatewayClient
    prices: Prices
    topology: Topology | None = None
    model: str = ""
    texts: Texts = Texts()
    progress: Progress = lambda: None

    def heard_by(self, progress: Progress) -> Measuring:
        """The same; ``progress`` hears of every answer."""
        return replace(self, progress=progress)

    async def rows(
        self, configurations: Sequence[tuple[dict[str, Value], Experiment]], systems: Sequence[System] = MEASURED
    ) -> AsyncIterator[list[Row]]:
        """Of one configuration after the other, with all modes in turn in each."""
        for settings, experiment in configurations:
            fleet = fleet_of(await self.client.workers(), experiment.target, self.prices, self.topology)
            await self._warm_up(experiment)
            wanted = [system for system in MEASURED if system in systems and _has(fleet, system)]
            found = [await self._row(system, settings, experiment, fleet) for system in wanted]
            yield sorted(found, key=lambda row: list(System).index(row.system))

    async def _row(self, system: System, settings: dict[str, Value], experiment: Experiment, fleet: Fleet) -> Row:
        workload, drafters = experiment.workload, _drafters(fleet, system)
        names = tuple(drafter.name for drafter in drafters)
        mode = MODES.get(system, Mode.OVERLAPPED)
        chosen = names if system is System.LOOKUPS else None
        speculation = SpeculationParameters(mode, cache_scope=NO_SCOPE, drafters=chosen)
        asking = Asking(self.client, speculation, experiment.seed, self.model, self.progress, self.texts.prompts)
        sessions = 0 if workload.requests_per_second > 0 else workload.sessions
        figures = Figures.of(await asking.all(requests(workload, experiment.seed), sessions), experiment.slo)
        notes: dict[str, Value] = {
            "verifiers": fleet.verifiers,
            "drafters": ", ".join(names) or "none",
            "priced_by": fleet.priced_by,
            "prompts": f"of {self.texts.source}, in turn, as long as they are",
        }
        if system is System.COLOCATED:
            notes["stands_for"] = IN_TURN
        costs = fleet.dollars_per_hour(drafters)
        return figures.row(Instrument.MEASURED, experiment, system, settings, costs, notes)

    async def _warm_up(self, experiment: Experiment) -> None:
        speculation = SpeculationParameters(cache_scope=NO_SCOPE)
        asking = Asking(self.client, speculation, experiment.seed, self.model, texts=self.texts.prompts)
        Figures.of(await asking.all([Request(0, 0.0, 1, WARM_UP_TOKENS, 0)], 1), experiment.slo)


def check_sweep(experiment: Experiment) -> None:
    """A fleet is as it is: only what is asked of it can be varied. Every error at once."""
    with every_error() as checks:
        for key, values in experiment.sweep.items():
            expected = "workload, slo or seed to vary: a fleet is as it is"
            checks.require(key.startswith(VARIED), f"sweep.{key}", list(values), expected)


def _drafters(fleet: Fleet, system: System) -> tuple[Drafting, ...]:
    """Those that a system pays for."""
    return {System.ALONE: (), System.LOOKUPS: fleet.lookups}.get(system, fleet.drafters)


def _has(fleet: Fleet, system: System) -> bool:
    """Whether the fleet has what a system needs; one whose drafters all look things up is no two systems."""
    if system is System.ALONE:
        return True
    if system is System.LOOKUPS:
        return bool(fleet.lookups)
    return len(fleet.lookups) < len(fleet.drafters)
