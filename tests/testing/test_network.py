"""Hosts that are namespaces: apart from the machine, a switch's delay away from each other, and cut off at will."""

from __future__ import annotations

import asyncio
import socket
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from paceline.testing.network import Host, missing, network

pytestmark = pytest.mark.skipif(bool(missing()), reason=f"hosts of their own need {missing()}")

ECHO = "import socket; s = socket.create_server(('0.0.0.0', 7)); c, _ = s.accept()\nwhile d := c.recv(99): c.sendall(d)"


async def answer(wire: socket.socket, data: bytes, seconds: float) -> bytes:
    loop = asyncio.get_running_loop()
    await loop.sock_sendall(wire, data)
    async with asyncio.timeout(seconds):
        return await loop.sock_recv(wire, 99)


async def dial(host: Host, address: str) -> socket.socket:
    async with asyncio.timeout(10):
        while True:
            try:
                return await asyncio.to_thread(host.dial, address, 7)
            except ConnectionRefusedError:
                await asyncio.sleep(0.02)


@pytest.fixture
def echo(tmp_path: Path) -> Iterator[Callable[[Host], None]]:
    """Has a host answer with what it hears."""
    processes = []
    yield lambda host: processes.append(host.start([sys.executable, "-c", ECHO], tmp_path / "log", {}))
    for process in processes:
        process.kill()
        process.wait()


async def test_hosts_are_a_delay_apart_and_tcp_sends_again_what_a_cut_cable_lost(echo: Callable[[Host], None]) -> None:
    loop = asyncio.get_running_loop()
    with network(["here", "there"], delay_seconds=0.05) as (switch, hosts):
        echo(hosts["there"])
        with await dial(hosts["here"], hosts["there"].address) as wire:
            started = loop.time()
            assert await answer(wire, b"1", 5) == b"1"
            assert loop.time() - started >= 0.1  # there and back
            switch.cut(hosts["there"])
            with pytest.raises(TimeoutError):
                await answer(wire, b"2", 0.3)
            switch.mend(hosts["there"])
            assert await answer(wire, b"3", 5) in (b"2", b"23")


def test_a_host_has_a_loopback_of_its_own_and_leaves_nothing_behind() -> None:
    async def use() -> str:
        with network(["here"]) as (_, hosts), socket.create_server(("127.0.0.1", 0)) as ours:
            with pytest.raises(ConnectionRefusedError):
                await asyncio.to_thread(hosts["here"].dial, "127.0.0.1", ours.getsockname()[1])
            with socket.create_connection(ours.getsockname()):  # and we are where we were
                return hosts["here"].name

    assert not Path("/run/netns", asyncio.run(use())).exists()
