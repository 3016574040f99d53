"""What all services share: links that merge and end, ports that are not shared, codes that say what is wrong."""

from __future__ import annotations

import asyncio

import grpc
import pytest

from paceline import rpc
from paceline.errors import FieldError, NotFound, OutOfBlocks, PacelineError, UnsupportedModel


async def test_what_gathers_while_a_peer_is_slow_leaves_together() -> None:
    link: rpc.Outgoing[int] = rpc.Outgoing(asyncio.get_running_loop())
    for item in range(3):
        await asyncio.to_thread(link.send, item)
    batches = []
    async for batch in link:
        batches.append(batch)
        if len(batches) == 1:
            link.send(3)
            link.close()
            link.send(4)
    assert batches == [[0, 1, 2], [3]]


async def test_a_peer_that_reads_nothing_loses_its_stream(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rpc, "MAX_PENDING", 10)
    stuck = asyncio.create_task(asyncio.sleep(60))
    link: rpc.Outgoing[int] = rpc.Outgoing(asyncio.get_running_loop(), stuck)
    for item in range(1000):
        link.send(item)
    with pytest.raises(asyncio.CancelledError):
        await stuck
    assert [batch async for batch in link] == []


@pytest.mark.filterwarnings("ignore")
async def test_a_port_in_use_is_not_shared() -> None:
    first, second = rpc.Server([]), rpc.Server([])
    port = await first.start("127.0.0.1", 0, insecure=False)
    with pytest.raises(RuntimeError, match="bind"):
        await second.start("127.0.0.1", port, insecure=False)
    await first.ready()
    assert await rpc.is_serving(f"127.0.0.1:{port}")
    await first.stop(0)
    assert not await rpc.is_serving(f"127.0.0.1:{port}", timeout_seconds=0.3)


async def test_health_follows_the_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rpc, "HEALTH_SECONDS", 0.01)
    server, well = rpc.Server([]), True
    port = await server.start("127.0.0.1", 0, insecure=False)
    await server.ready(lambda: well)
    for well in (True, False, True):
        await asyncio.sleep(0.05)
        assert await rpc.is_serving(f"127.0.0.1:{port}") is well
    await server.stop(0)


async def test_other_addresses_than_loopback_need_insecure() -> None:
    with pytest.raises(FieldError, match=r"host = '0.0.0.0': expected a loopback address, or TLS .*, or --insecure"):
        await rpc.Server([]).start("0.0.0.0", 0, insecure=False)


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (FieldError("f", 1, "2"), grpc.StatusCode.INVALID_ARGUMENT),
        (UnsupportedModel("f", 1, "2"), grpc.StatusCode.INVALID_ARGUMENT),
        (NotFound("x"), grpc.StatusCode.NOT_FOUND),
        (OutOfBlocks("x"), grpc.StatusCode.RESOURCE_EXHAUSTED),
        (PacelineError("x"), grpc.StatusCode.INTERNAL),
    ],
)
def test_errors_have_their_codes(error: Exception, code: grpc.StatusCode) -> None:
    assert rpc.status_of(error) is code
