"""A full disk: writes fail, and a drafter that wanted to keep something drafts on."""

from __future__ import annotations

import logging
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from drafter_service.drafters.suffix import Snapshot, SuffixDrafter
from drafter_service.memory import SuffixMemory
from paceline import rpc
from paceline.cluster.child import Reservation
from paceline.testing.disk import NO_ROOM, fill_disk, full_disk
from paceline.testing.processes import Process, until


def test_files_find_no_room_and_sockets_do(tmp_path: Path) -> None:
    near, far = socket.socketpair()
    with full_disk(room_bytes=100):
        (tmp_path / "small").write_bytes(b"x" * 100)
        with pytest.raises(OSError, match="too large"):
            (tmp_path / "large").write_bytes(b"x" * 101)
        near.sendall(b"x" * 10_000)
        assert far.recv(10_000)
    (tmp_path / "large").write_bytes(b"x" * 101)
    near.close()
    far.close()


def test_a_device_without_room_says_so() -> None:
    with pytest.raises(OSError, match="No space left"), NO_ROOM.open("wb", buffering=0) as log:
        log.write(b"x")


def test_a_snapshot_that_finds_no_room_leaves_the_one_before(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    snapshot = Snapshot(tmp_path / "snapshot", "tokenizer")

    def remembering(text: list[int]) -> SuffixDrafter:
        memory = SuffixMemory(100_000, 100)
        drafter = SuffixDrafter(memory, snapshot)
        memory.remember("", text)
        return drafter

    remembering([1, 2, 3]).stop()
    drafter = remembering(list(range(10_000)))
    with full_disk(room_bytes=1000), caplog.at_level(logging.WARNING):
        drafter.stop()
    assert "the memory is not kept" in caplog.text
    kept = SuffixMemory(100_000, 100)
    kept.load(snapshot.directory, "tokenizer")
    assert kept.documents == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["snapshot"]
    kept.stop()


async def test_a_drafter_whose_log_finds_no_room_serves_and_ends_in_order() -> None:
    reservation = Reservation()
    address = f"127.0.0.1:{reservation.port}"
    flags = ["--kind", "ngram", "--verifiers", "127.0.0.1:1", "--port", str(reservation.port), "--exit-with-parent"]
    with NO_ROOM.open("wb") as log:
        child = subprocess.Popen(  # noqa: ASYNC220 - it is only started here
            [sys.executable, "-m", "drafter_service", *flags], stdin=subprocess.PIPE, stdout=log, stderr=log
        )
    try:
        await until(lambda: rpc.is_serving(address), timeout_seconds=30)
        fill_disk(pid=child.pid)
        assert await rpc.is_serving(address)
        child.send_signal(signal.SIGTERM)
        await Process(child.pid).ended()
        assert child.wait() == 0
    finally:
        child.kill()
        child.wait()
        assert child.stdin is not None
        child.stdin.close()
        reservation.release()
