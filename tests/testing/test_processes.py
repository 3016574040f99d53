"""Processes are killed, paused and looked at by their ids."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest

from paceline.testing.processes import Process, until

COUNTING = "import sys, time\nwhile True:\n    print(1, flush=True)\n    time.sleep(0.002)"


@pytest.fixture
def child() -> Iterator[subprocess.Popen[bytes]]:
    """One that counts, and is left unread for no longer than a pipe lasts."""
    process = subprocess.Popen([sys.executable, "-c", COUNTING], stdout=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.readline()
    yield process
    process.kill()
    process.wait()
    process.stdout.close()


async def test_a_killed_process_is_dead_before_anybody_waits_for_it(child: subprocess.Popen[bytes]) -> None:
    process = Process(child.pid)
    assert process.alive
    process.kill()
    await process.ended()
    assert not process.alive
    assert child.wait() == -signal.SIGKILL
    assert not process.alive, "nor after"


async def test_a_paused_process_does_nothing_and_goes_on(child: subprocess.Popen[bytes]) -> None:
    process = Process(child.pid)
    process.pause()

    async def paused() -> bool:
        return process.paused

    await until(paused)
    took = process.cpu_seconds
    await asyncio.sleep(0.05)
    assert process.alive
    assert process.cpu_seconds == took
    with pytest.raises(TimeoutError):
        await process.ended(timeout_seconds=0.05)
    process.resume()
    assert child.stdout is not None
    for _ in range(50):
        assert child.stdout.readline() == b"1\n"
    assert not process.paused


def test_what_a_process_holds_is_counted() -> None:
    process = Process(os.getpid())
    before = process.held()
    first, second = os.pipe()
    assert process.held().file_descriptors == before.file_descriptors + 2
    os.close(first)
    os.close(second)
    assert process.held().file_descriptors == before.file_descriptors
    assert before.threads >= 1
    assert before.resident_bytes > 1 << 20
    assert process.cpu_seconds > 0
