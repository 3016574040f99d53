"""Services for real with emulated forwards: what is counted must add up, whatever else this machine does meanwhile."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path

import pytest

from paceline.experiments.live.emulation import LONGEST, emulate
from paceline.experiments.results import Instrument, Row, System
from paceline.experiments.rows import read_results
from paceline.experiments.specification import DrafterSpec, Experiment, SloSpec, TargetSpec, WorkloadSpec
from paceline.experiments.sweeps import configurations
from paceline.experiments.tables import prices
from paceline.speculation.fields import FieldError
from paceline.testing.processes import Process, children, until

STEP_MS = 22.5
"""Of a row, as the table of this target says."""
TOKENS, REQUESTS = 24, 3
EXPERIMENT = Experiment(
    "test",
    TargetSpec("Llama-3.1-70B", "H200", 2),
    drafters={"spot": DrafterSpec(model="any", card="RTX4090", forward_ms=3.0)},
    workload=WorkloadSpec(requests=REQUESTS, prompt_tokens=32, output_tokens=TOKENS, acceptance="alpha=0.9"),
    slo=SloSpec(ttft_ms=0.001),
)
SPEC = """
name: test
target: {model: Llama-3.1-70B, card: H200, tensor_parallel: 2}
workload: {requests: 200, prompt_tokens: 32, output_tokens: 200, acceptance: alpha=0.9}
"""


@pytest.fixture(scope="module")
def rows() -> list[Row]:
    async def collect() -> list[Row]:
        points = list(configurations(EXPERIMENT))
        return [row async for found in emulate(points, prices(), (System.ALONE, System.TREES)) for row in found]

    return asyncio.run(collect())


def of(rows: list[Row], system: System) -> Row:
    (found,) = (row for row in rows if row.system is system)
    return found


def test_every_request_is_answered_to_its_full_length(rows: list[Row]) -> None:
    assert [row.system for row in rows] == [System.ALONE, System.TREES]
    for row in rows:
        assert row.instrument is Instrument.EMULATED
        assert row.requests == REQUESTS
        assert "failed" not in row.notes
        seconds = row.notes["seconds"]
        assert isinstance(seconds, float)
        assert row.tokens_per_second * seconds == pytest.approx(REQUESTS * TOKENS, rel=1e-3)


def test_the_target_alone_says_a_token_a_step_and_no_step_is_shorter_than_emulated(rows: list[Row]) -> None:
    """Steps may be late on a machine with other work, never early: the clock is the services' own."""
    alone = of(rows, System.ALONE)
    assert alone.tokens_per_step == 1.0
    assert alone.tpot_ms.p50 >= STEP_MS
    assert float(alone.notes["step_ms"]) >= STEP_MS * (TOKENS - 1) / TOKENS  # a prompt's chunk is shorter
    assert alone.tokens_per_second < 1000 / STEP_MS


def test_prompts_take_their_time_too(rows: list[Row]) -> None:
    for row in rows:
        assert row.ttft_ms.p50 >= 1e3 * 32 / 10_000


def test_trees_make_no_fewer_tokens_a_step_and_are_paid_for(rows: list[Row]) -> None:
    alone, trees, card = of(rows, System.ALONE), of(rows, System.TREES), prices()
    assert trees.tokens_per_step >= 1.0
    assert alone.dollars_per_hour["mid"] == pytest.approx(2 * card["H200"]["mid"])
    assert trees.dollars_per_hour["mid"] == pytest.approx(2 * card["H200"]["mid"] + card["RTX4090"]["mid"])


def test_what_misses_the_slo_is_no_goodput(rows: list[Row]) -> None:
    assert [row.goodput for row in rows] == [0.0, 0.0]
    assert [row.notes["within_slo"] for row in rows] == [0.0, 0.0]


def test_a_row_says_what_the_emulation_cost_and_whether_to_believe_it(rows: list[Row]) -> None:
    for row in rows:
        assert str(row.notes["valid"]).startswith(("yes", "no: "))
        assert int(row.notes["forwards"]) >= 0
        assert float(row.notes["cpu_seconds"]) > 0


async def test_texts_that_the_stand_in_cannot_hold_are_refused() -> None:
    long = Experiment("test", EXPERIMENT.target, workload=WorkloadSpec(prompt_tokens=LONGEST, output_tokens=10))
    with pytest.raises(FieldError, match=f"less than {LONGEST} tokens of prompt and answer"):
        await anext(emulate(list(configurations(long)), prices()))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_an_interruption_leaves_no_process_and_no_folder(tmp_path: Path, number: signal.Signals) -> None:
    """Also of a run in a shell's background, which is deaf to SIGINT to begin with."""
    spec, out = tmp_path / "spec.yaml", tmp_path / "out.json"
    spec.write_text(SPEC)
    command = ("-m", "paceline.experiments.live", "emulate", str(spec), "--out", str(out), "--systems", "alone")
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        running = await asyncio.create_subprocess_exec(
            sys.executable, *command, stderr=asyncio.subprocess.PIPE, env={**os.environ, "TMPDIR": str(tmp_path)}
        )
    finally:
        signal.signal(signal.SIGINT, before)

    async def has_children() -> bool:
        return len(children(running.pid)) >= 2  # a verifier and a gateway

    try:
        await until(has_children, 90.0)
        fleet = children(running.pid)
        running.send_signal(number)
        _, said = await asyncio.wait_for(running.communicate(), 30.0)
    finally:
        if running.returncode is None:
            running.kill()
    assert running.returncode == 130
    assert b"Traceback" not in said
    await until(lambda: gone(fleet), 10.0)
    assert names(tmp_path) == ["spec.yaml"]


def names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


async def gone(pids: list[int]) -> bool:
    return not any(Process(pid).alive for pid in pids)


async def test_rows_are_written_for_the_report_to_read(tmp_path: Path) -> None:
    spec, out = tmp_path / "spec.yaml", tmp_path / "out.json"
    spec.write_text(SPEC.replace("requests: 200", "requests: 1").replace("output_tokens: 200", "output_tokens: 4"))
    command = ("-m", "paceline.experiments.live", "emulate", str(spec), "--out", str(out), "--systems", "alone")
    running = await asyncio.create_subprocess_exec(sys.executable, *command, stdout=asyncio.subprocess.PIPE)
    said, _ = await running.communicate()
    assert running.returncode == 0
    assert said.decode().splitlines()[-1].startswith("RESULT rows=1 ")
    assert [row.system for row in read_results(out).rows] == [System.ALONE]
