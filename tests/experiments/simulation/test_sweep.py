"""A sweep: every system in every configuration, paid for, the same bytes from any number of processes."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from paceline import experiments
from paceline.experiments.results import Instrument, Row, System
from paceline.experiments.rows import Results, rows_to_json
from paceline.experiments.simulation import aggregated
from paceline.experiments.simulation.__main__ import app
from paceline.experiments.simulation.showing import result_line
from paceline.experiments.simulation.sweep import simulate
from paceline.experiments.simulation.systems import arrange
from paceline.experiments.specification import (
    DrafterSpec,
    Experiment,
    NetworkSpec,
    SloSpec,
    TargetSpec,
    WorkloadSpec,
)
from paceline.experiments.sweeps import configurations
from paceline.experiments.tables import prices
from paceline.testing.processes import Process, children, until

EXPERIMENT = Experiment(
    "test",
    TargetSpec("Llama-3.1-70B", "H200", 2),
    drafters={"small": DrafterSpec(model="any", card="RTX4090", forward_ms=4.5, acceptance="alpha=0.8")},
    workload=WorkloadSpec(requests=6, prompt_tokens=64, output_tokens=24),
)


def rows_of(experiment: Experiment, processes: int = 1, *, fast: bool = False) -> list[Row]:
    return simulate(list(configurations(experiment)), prices(), processes=processes, fast=fast)


def test_every_system_is_in_every_configuration() -> None:
    rows = rows_of(replace(EXPERIMENT, sweep={"workload.sessions": (1, 2), "network.round_trip_ms": (0.5, 5.0)}))
    assert [row.system for row in rows] == list(System) * 4
    assert [row.settings["network.round_trip_ms"] for row in rows[::6]] == [0.5, 5.0, 0.5, 5.0]
    alone = [row for row in rows if row.system is System.ALONE]
    assert alone[0].tokens_per_second == alone[1].tokens_per_second < alone[2].tokens_per_second
    assert all(row.instrument is Instrument.SIMULATED and row.requests == 6 for row in rows)
    assert result_line(rows).startswith("RESULT configurations=4 rows=24 ")


def test_how_many_processes_work_on_it_makes_no_difference() -> None:
    swept = replace(EXPERIMENT, sweep={"workload.sessions": (1, 3)})
    assert rows_to_json(Results(swept, tuple(rows_of(swept, 2)))) == rows_to_json(
        Results(swept, tuple(rows_of(swept, 1)))
    )


def test_who_drafts_is_paid_for_idle_or_not_and_who_does_not_is_not() -> None:
    ((_, experiment),) = configurations(
        replace(EXPERIMENT, drafters={"small": replace(EXPERIMENT.drafters["small"], replicas=3)})
    )
    found = arrange(experiment, prices())
    target, drafter = 2 * prices()["H200"]["mid"], 3 * prices()["RTX4090"]["mid"]
    for system in System:
        drafts = system in (System.PEARL, System.OUTCOMES, System.TREES)
        assert found[system].dollars_per_hour["mid"] == pytest.approx(target + drafts * drafter)


def test_a_price_of_ones_own_comes_before_the_files() -> None:
    pools = {"small": replace(EXPERIMENT.drafters["small"], price_per_hour=0.1, cards_each=0.5)}
    ((_, experiment),) = configurations(replace(EXPERIMENT, drafters=pools))
    dollars = arrange(experiment, prices())[System.TREES].dollars_per_hour
    assert {price: cost - 2 * prices()["H200"][price] for price, cost in dollars.items()} == pytest.approx(
        dict.fromkeys(("low", "mid", "high"), 0.05)
    )


def test_prices_and_what_others_have_are_not_run_again() -> None:
    done: list[tuple[int, int]] = []
    sweep = {"drafters.small.price_per_hour": (0.1, 0.2, 0.4), "drafters.small.acceptance": ("alpha=0.7", "alpha=0.8")}
    swept = list(configurations(replace(EXPERIMENT, sweep=sweep)))
    rows = simulate(swept, prices(), progress=lambda *at: done.append(at))
    assert len(rows) == 36
    assert done[-1] == (10, 10), "alone and the look-ups once, the four with the model once for each acceptance"


def test_tokens_too_late_are_no_goodput() -> None:
    strict = replace(EXPERIMENT, slo=SloSpec(ttft_ms=1e6, tpot_ms=15.0))
    rows = {row.system: row for row in rows_of(strict)}
    assert rows[System.ALONE].goodput == 0.0
    assert rows[System.ALONE].dollars_per_million("mid") == float("inf")
    assert rows[System.TREES].goodput > 0


def test_one_drafter_for_several_verifiers_and_a_drafter_on_the_targets_card() -> None:
    shared = replace(EXPERIMENT, target=replace(EXPERIMENT.target, replicas=4))
    ((_, experiment),) = configurations(shared)
    found = arrange(experiment, prices())
    pearl = found[System.PEARL].draft
    assert pearl is not None
    assert pearl.share == 4.0
    beside = {
        **EXPERIMENT.drafters,
        "beside": DrafterSpec(model="Llama-3.2-1B", card="H200", forward_ms=2.0, colocated=True),
    }
    ((_, experiment),) = configurations(replace(EXPERIMENT, drafters=beside))
    found = arrange(experiment, prices())
    colocated = found[System.COLOCATED].draft
    assert colocated is not None
    assert colocated.pool.forward_ms == 2.0
    assert [pool.name for pool in found[System.TREES].machines.pools] == ["small"]


def test_without_drafters_the_rivals_have_a_look_up() -> None:
    rows = {row.system: row for row in rows_of(replace(EXPERIMENT, drafters={}))}
    assert rows[System.LOOKUPS].tokens_per_second > 1.1 * rows[System.ALONE].tokens_per_second
    assert rows[System.LOOKUPS].dollars_per_hour == rows[System.ALONE].dollars_per_hour
    assert rows[System.TREES].tokens_per_second == rows[System.LOOKUPS].tokens_per_second


def test_rows_of_the_fast_path_say_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(aggregated, "LEAST_TOKENS", 0)
    rows = {row.system: row for row in rows_of(EXPERIMENT, fast=True)}
    assert rows[System.TREES].instrument is Instrument.FAST
    assert rows[System.ALONE].instrument is Instrument.SIMULATED


def test_the_command_prints_its_result_last_and_writes_its_rows(tmp_path: Path) -> None:
    spec, out = tmp_path / "spec.yaml", tmp_path / "rows.json"
    spec.write_text(
        "name: small\ntarget: {model: Llama-3.1-70B, card: H200, tensor_parallel: 2}\n"
        "drafters: {small: {card: RTX4090, forward_ms: 4.5}}\n"
        "workload: {requests: 3, prompt_tokens: 32, output_tokens: 12, acceptance: mid}\n"
    )
    result = CliRunner().invoke(app, [str(spec), "--out", str(out), "--processes", "1"])
    assert result.exit_code == 0, result.output
    assert result.output.strip().splitlines()[-1].startswith("RESULT configurations=1 rows=6 ")
    assert [row["system"] for row in json.loads(out.read_text())["rows"]] == [system.value for system in System]


def test_the_command_refuses_a_bad_specification_with_every_error(tmp_path: Path) -> None:
    spec = tmp_path / "spec.yaml"
    spec.write_text("name: bad\ntarget: {model: Llama-3.1-70B, card: H900}\nnetwork: {round_trip_ms: -1}\n")
    result = CliRunner().invoke(app, [str(spec)])
    assert result.exit_code == 2
    assert "H900" in result.output
    assert "network.round_trip_ms" in result.output


def test_the_wire_reaches_every_system_that_has_one() -> None:
    near, far = (
        {row.system: row.tokens_per_second for row in rows_of(replace(EXPERIMENT, network=NetworkSpec(rtt)))}
        for rtt in (0.5, 40.0)
    )
    for system in (System.PEARL, System.OUTCOMES, System.TREES):
        assert far[system] < near[system]
    assert far[System.ALONE] == near[System.ALONE]
    assert far[System.COLOCATED] == near[System.COLOCATED]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
async def test_who_is_ended_leaves_no_worker(number: signal.Signals) -> None:
    """Also if a shell had put it into the background, deaf to SIGINT."""
    spec = Path(experiments.__file__).parent / "specs" / "rtt-sweep.yaml"
    command = [sys.executable, "-m", "paceline.experiments.simulation", str(spec), "--processes", "2"]
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    running = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)  # noqa: ASYNC220 - it is there at once
    signal.signal(signal.SIGINT, before)
    workers = list[int]()

    async def at_work() -> bool:
        return len(children(running.pid)) == 3  # two workers, and who looks after their semaphores

    async def over() -> bool:
        return not any(Process(pid).alive for pid in workers)

    try:
        await until(at_work, 60.0)
        workers += children(running.pid)
        running.send_signal(number)
        status = await asyncio.to_thread(running.wait, 30)
        assert status == (-signal.SIGKILL if number is signal.SIGKILL else 130)
        await until(over, 10.0)
    finally:
        running.kill()
        running.wait()
