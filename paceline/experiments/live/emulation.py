"""Emulation: gateway, verifiers, drafters and gRPC as they are, forwards and wires as a specification has them."""

from __future__ import annotations

import tempfile
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from paceline.bench.random_weights import TINY, write_random
from paceline.client import GatewayClient
from paceline.cluster.local import LocalCluster
from paceline.experiments.live.asking import Asking, Progress
from paceline.experiments.live.effort import Effort, Reading
from paceline.experiments.live.figures import Figures
from paceline.experiments.live.fleet import MODEL, topology
from paceline.experiments.results import Instrument, Row, System
from paceline.experiments.simulation.systems import Arrangement, arrange
from paceline.experiments.simulation.workload import Request, requests
from paceline.experiments.specification import Experiment
from paceline.experiments.sweeps import Value
from paceline.experiments.tables import Prices
from paceline.speculation.fields import require
from paceline.speculation.noise import mix64
from paceline.speculation.policy import NO_SCOPE, Mode, SpeculationParameters

EMULATED = (System.TREES, System.ALONE, System.LOOKUPS)
"""What the services are. Rivals are other programs, at their best lengths: our own drafting in turn would flatter us in
their place. Trees first: a verifier that has seen nothing yet is what the simulator has, too."""
LONGEST = 8192
"""Tokens of prompt and answer that the stand-in for the target takes."""
WARM_UP_TOKENS = 16
Settings = dict[str, Value]


@dataclass(frozen=True)
class _Run:
    """One system of one configuration."""

    experiment: Experiment
    settings: Settings
    arrangement: Arrangement


async def emulate(
    configurations: Sequence[tuple[Settings, Experiment]],
    prices: Prices,
    systems: Sequence[System] = EMULATED,
    progress: Progress = lambda: None,
) -> AsyncIterator[list[Row]]:
    """The rows of one configuration after the other; ``progress`` hears of every answer."""
    with tempfile.TemporaryDirectory(prefix="paceline-emulation-") as directory:
        checkpoint = write_random(Path(directory) / "target", TINY, seed=1)
        for settings, experiment in configurations:
            _check(experiment)
            arranged = arrange(experiment, prices)
            runs = [_Run(experiment, settings, arranged[system]) for system in EMULATED if system in systems]
            yield await _rows(runs, checkpoint, Path(directory), progress)


async def _rows(runs: Sequence[_Run], checkpoint: Path, directory: Path, progress: Progress) -> list[Row]:
    """Runs that one fleet can serve share it: the target alone has idle drafters beside it."""
    rows, waiting = list[Row](), list(runs)
    while waiting:
        first = waiting[0]
        together = [run for run in waiting if run is first or run.arrangement.system is System.ALONE]
        waiting = [run for run in waiting if run not in together]
        fleet = topology(first.arrangement.machines, checkpoint, directory)
        async with LocalCluster(fleet) as cluster, GatewayClient(cluster.gateway_address) as client:
            await _warm_up(client, first)
            rows += [await _row(run, client, cluster, progress) for run in together]
    order = list(System)
    return sorted(rows, key=lambda row: order.index(row.system))


async def _row(run: _Run, client: GatewayClient, cluster: LocalCluster, progress: Progress) -> Row:
    experiment, arrangement = run.experiment, run.arrangement
    workload = experiment.workload
    mode = Mode.OFF if arrangement.system is System.ALONE else Mode.OVERLAPPED
    speculation = SpeculationParameters(mode, cache_scope=NO_SCOPE)
    asking = Asking(client, speculation, experiment.seed, MODEL, progress)
    before = Reading.now(cluster.workers)
    sessions = 0 if workload.requests_per_second > 0 else workload.sessions
    answers = await asking.all(requests(workload, experiment.seed), sessions)
    effort = Effort.between(before, Reading.now(cluster.workers))
    figures, notes = Figures.of(answers, experiment.slo), {**effort.notes(), **arrangement.notes}
    costs = arrangement.dollars_per_hour
    return figures.row(Instrument.EMULATED, experiment, arrangement.system, run.settings, costs, notes)


async def _warm_up(client: GatewayClient, run: _Run) -> None:
    """Streams are opened, and first forwards made."""
    asking = Asking(client, SpeculationParameters(Mode.OVERLAPPED), run.experiment.seed, MODEL)
    key = mix64(run.experiment.seed + 1)
    answers = await asking.all([Request(0, 0.0, WARM_UP_TOKENS, WARM_UP_TOKENS, key)], 1)
    Figures.of(answers, run.experiment.slo)


def _check(experiment: Experiment) -> None:
    asked = requests(experiment.workload, experiment.seed)
    longest = max(request.prompt_tokens + request.output_tokens for request in asked)
    require(longest < LONGEST, "workload.output_tokens", longest, f"less than {LONGEST} tokens of prompt and answer")
