"""A whole sweep: every configuration, every system; the rows do not depend on how many processes work on it."""

from __future__ import annotations

import gc
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace

from paceline.experiments.results import Instrument, Row, System
from paceline.experiments.simulation.runs import Job, Outcome, run
from paceline.experiments.simulation.systems import OURS, Arrangement, arrange
from paceline.experiments.specification import MID, Experiment
from paceline.experiments.tables import Prices

Settings = Mapping[str, float | int | str]
Configuration = tuple[Settings, Experiment]
Progress = Callable[[int, int], None]


def simulate(
    configurations: Sequence[Configuration],
    prices: Prices,
    *,
    fast: bool = False,
    processes: int = 1,
    progress: Progress | None = None,
) -> list[Row]:
    """A row for each configuration and system, in their order.

    What several of them have in common, as the target alone whatever its drafters are, is run once.
    """
    arranged = [arrange(experiment, prices) for _, experiment in configurations]
    wanted = [
        {system: _job(found, experiment, fast=fast) for system, found in systems.items()}
        for (_, experiment), systems in zip(configurations, arranged, strict=True)
    ]
    jobs = list(dict.fromkeys(job for systems in wanted for job in systems.values()))
    outcomes = dict[Job, Outcome]()
    for job, outcome in zip(jobs, _run_all(jobs, processes), strict=True):
        outcomes[job] = outcome
        if progress:
            progress(len(outcomes), len(jobs))
    return [
        _row(configuration, systems, system, outcomes[job], fast=fast)
        for configuration, systems, needed in zip(configurations, arranged, wanted, strict=True)
        for system, job in needed.items()
    ]


def _job(arrangement: Arrangement, experiment: Experiment, *, fast: bool) -> Job:
    fast = fast and arrangement.system in OURS
    workload = replace(experiment.workload, acceptance="")  # drafters have theirs; the target alone has none
    return Job(arrangement, workload, experiment.slo, experiment.seed, fast)


def _run_all(jobs: Sequence[Job], processes: int) -> Iterator[Outcome]:
    if processes == 1 or len(jobs) == 1:
        yield from map(run, jobs)
        return
    # spawned, as a fork of a process with threads may hang
    context = multiprocessing.get_context("spawn")
    with context.Pool(min(processes, len(jobs)), follow_parent) as pool:  # whose workers end with the block
        yield from pool.imap(_run_clean, jobs)


def follow_parent() -> None:
    """A worker ends with who started it, however that ends, and is not for the terminal's Ctrl-C to end."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    assert parent is not None, "this is a worker"

    def watch() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _run_clean(job: Job) -> Outcome:
    """Trees are taken apart when they die, so that all there is to collect lies in what a whole run leaves."""
    gc.disable()
    outcome = run(job)
    gc.collect()
    return outcome


def _row(
    configuration: Configuration,
    systems: Mapping[System, Arrangement],
    system: System,
    outcome: Outcome,
    *,
    fast: bool,
) -> Row:
    settings, experiment = configuration
    arrangement = systems[system]
    dollars, ours = arrangement.dollars_per_hour, systems[System.TREES].dollars_per_hour
    notes: dict[str, float | int | str] = {
        "within_slo": round(outcome.within_slo, 4),
        "rows_per_step": round(outcome.rows_per_step, 2),
        "seconds": round(outcome.seconds, 3),
        **arrangement.notes,
    }
    if dollars[MID] > 0:  # as many copies as our trees' money buys, the load shared between them
        notes["goodput_at_equal_dollars"] = round(outcome.goodput * ours[MID] / dollars[MID], 3)
    if outcome.verifiers_busy:
        notes["verifiers_busy"] = round(outcome.verifiers_busy, 4)
        notes["drafters_busy"] = round(outcome.drafters_busy, 4)
    return Row(
        experiment=experiment.name,
        system=system,
        instrument=Instrument.FAST if fast and system in OURS else Instrument.SIMULATED,
        settings=dict(settings),
        tokens_per_second=outcome.tokens_per_second,
        goodput=outcome.goodput,
        ttft_ms=outcome.ttft_ms,
        tpot_ms=outcome.tpot_ms,
        tokens_per_step=outcome.tokens_per_step,
        requests=outcome.requests,
        dollars_per_hour=dict(dollars),
        notes=notes,
    )
