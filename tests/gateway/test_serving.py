"""A gateway over real streams: overload, keys, slow readers, clients that leave, and several models."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import grpc
import pytest
from grpc import aio

from gateway.admission import Bounds
from gateway.callers import Callers, KeyEntry, hash_key
from paceline import wire
from paceline.client import GatewayClient
from paceline.errors import ResourceExhausted
from paceline.messages import Chunk, Generate
from paceline.rpc import RETRY_AFTER
from paceline.speculation.policy import Mode, SpeculationParameters
from paceline.speculation.sampling import SamplingParameters
from tests.checkpoints import write_checkpoint
from tests.local_fleet import local_gateway, local_verifier
from verifier_service.table import Limits

OFF = SpeculationParameters(mode=Mode.OFF)


def asked(tokens: int = 20, seed: int = 1, model: str = "", prompt: tuple[int, ...] = (5, 6, 7)) -> Generate:
    sampling = SamplingParameters(max_tokens=tokens, temperature=0.8, ignore_eos=True)
    return Generate(model=model, token_ids=prompt, sampling=sampling, speculation=OFF, seed=seed)


async def collect(client: GatewayClient, request: Generate) -> list[Chunk]:
    return [chunk async for chunk in client.generate(request)]


def tokens_of(chunks: list[Chunk]) -> list[int]:
    return [token_id for chunk in chunks for token_id in chunk.token_ids]


async def until(condition: Callable[[], bool], seconds: float = 5.0) -> None:
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110 - of another thread
            await asyncio.sleep(0.005)


async def test_at_three_times_the_load_some_are_served_and_the_rest_hear_so_at_once(target_path: Path) -> None:
    """Two slots of about 0.1 s: 60 requests a second are three times what they can serve."""
    answers, refusals = list[list[int]](), list[tuple[float, grpc.StatusCode, int]]()

    async def one(client: GatewayClient) -> None:
        start = time.monotonic()
        try:
            answers.append(tokens_of(await collect(client, asked(20))))
        except aio.AioRpcError as error:
            retry = dict(error.trailing_metadata() or ())[RETRY_AFTER]
            refusals.append((time.monotonic() - start, error.code(), int(retry)))

    async with local_verifier(target_path, step="5ms") as verifier:
        bounds = Bounds(wait_seconds=0.3)
        async with (
            local_gateway([verifier], bounds=bounds, sessions_per_verifier=2) as local,
            GatewayClient(local.address) as client,
        ):
            async with asyncio.TaskGroup() as group:
                for _ in range(60):
                    group.create_task(one(client))
                    await asyncio.sleep(1 / 60)
            statistics = local.gateway.admission.statistics()["target"]
        assert verifier.free_blocks == verifier.verifier.load()[3]
    assert len(answers) + len(refusals) == 60
    assert len(answers) >= 6
    assert len(refusals) >= 6
    assert len({tuple(answer) for answer in answers}) == 1
    assert {code for _, code, _ in refusals} == {grpc.StatusCode.RESOURCE_EXHAUSTED}
    assert all(retry > 0 for *_, retry in refusals)
    assert (statistics.admitted, statistics.running, statistics.waiting) == (len(answers), 0, 0)
    assert sum(statistics.refused.values()) == len(refusals)
    assert statistics.waited_seconds / statistics.admitted <= bounds.wait_seconds


async def test_a_key_opens_the_door_and_its_limits_hold(target_path: Path) -> None:
    entries = [
        KeyEntry("alice", hash_key("pl-alice"), requests_per_minute=2),
        KeyEntry("bob", hash_key("pl-bob"), tokens_per_minute=100),
    ]
    async with (
        local_verifier(target_path) as verifier,
        local_gateway([verifier], callers=Callers(entries)) as local,
        GatewayClient(local.address, "pl-alice") as alice,
        GatewayClient(local.address, "pl-bob") as bob,
        GatewayClient(local.address, "pl-mallory") as mallory,
    ):
        for call in (collect(mallory, asked()), mallory.models(), mallory.workers(), mallory.abort("s")):
            with pytest.raises(aio.AioRpcError) as caught:
                await call
            assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED
            assert "mallory" not in (caught.value.details() or "")
        assert len(await alice.models()) == 1
        for _ in range(2):
            assert len(tokens_of(await collect(alice, asked()))) == 20
        with pytest.raises(aio.AioRpcError, match="key 'alice': 2 requests per minute") as caught:
            await collect(alice, asked())
        assert 25_000 < int(dict(caught.value.trailing_metadata() or ())[RETRY_AFTER]) <= 30_000
        with pytest.raises(aio.AioRpcError, match="expected prompt and max_tokens within the 100 tokens") as caught:
            await collect(bob, asked(98))
        assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert len(tokens_of(await collect(bob, asked(97)))) == 97


async def test_a_slow_reader_holds_up_nobody(tmp_path: Path) -> None:
    """One client reads nothing of a long text. Its session runs to the end and leaves its slot, next to nothing is kept
    for it, others are served meanwhile, and when it reads at last nothing is missing."""
    path = write_checkpoint(tmp_path / "long", max_position_embeddings=1024)
    asks = asked(700)  # some 200 bytes a token, and a window of 64 KiB
    long = replace(asks, sampling=replace(asks.sampling, logprobs=20))
    async with (
        local_verifier(path, limits=Limits(max_sessions=2)) as verifier,
        local_gateway([verifier]) as local,
        aio.insecure_channel(local.address, options=[("grpc.http2.bdp_probe", 0)]) as narrow,
        GatewayClient(local.address) as client,
    ):
        (worker,) = local.gateway.verifiers
        stalled = wire.gateway_stub(narrow).Generate(wire.to_generate(long))
        await stalled.read()
        (running,) = local.gateway._running.values()
        assert running.seat is not None
        events, most = running.seat.events, 0
        while events.tokens < 700:
            assert len(tokens_of(await collect(client, asked(20)))) == 20
            most = max(most, events.unread)
        assert most <= 64
        assert len(running.teller.said) < 700
        await until(lambda: local.gateway.admission.statistics()["target"].running == 0)
        assert worker.load == 0
        await until(lambda: verifier.free_blocks == verifier.verifier.load()[3])
        text: list[int] = []
        while (reply := await stalled.read()) is not aio.EOF:
            text += reply.token_ids
        assert text == tokens_of(await collect(client, long))


async def test_a_reader_who_never_comes_back_is_dropped(target_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.service.PATIENCE_SECONDS", 0.2)
    async with local_verifier(target_path) as verifier, local_gateway([verifier]) as local:
        stream = local.gateway.generate(asked(300))
        reader = asyncio.create_task(_read_one_and_stop(stream))
        await until(reader.done)
        assert reader.cancelled()
        await stream.aclose()
        assert local.gateway._running == {}


async def _read_one_and_stop(stream: object) -> None:
    await anext(stream)  # type: ignore[call-overload]
    await asyncio.Event().wait()


async def test_whoever_leaves_frees_everything(target_path: Path) -> None:
    """By cancelling while running, by a deadline, and by cancelling while waiting."""
    async with (
        local_verifier(target_path, step="2ms") as verifier,
        local_gateway([verifier], bounds=Bounds(wait_seconds=5.0), sessions_per_verifier=1) as local,
        aio.insecure_channel(local.address) as connection,
    ):
        stub, (worker,) = wire.gateway_stub(connection), local.gateway.verifiers

        def free() -> bool:
            running, waiting, blocks, total = verifier.verifier.load()
            statistics = local.gateway.admission.statistics()["target"]
            ours = (statistics.running, statistics.waiting, statistics.waiting_tokens, worker.load)
            return (running, waiting, blocks) == (0, 0, total) and ours == (0, 0, 0, 0)

        for timeout in (None, 0.2):
            call = stub.Generate(wire.to_generate(asked(450)), timeout=timeout)
            await call.read()
            waiting = stub.Generate(wire.to_generate(asked(450)))
            await until(lambda: local.gateway.admission.statistics()["target"].waiting == 1)
            waiting.cancel()
            await until(lambda: local.gateway.admission.statistics()["target"].waiting == 0)
            if timeout is None:
                call.cancel()
            await until(free)


async def test_a_client_that_leaves_is_gone_from_the_next_step_on(target_path: Path) -> None:
    async with (
        local_verifier(target_path, step="20ms") as verifier,
        local_gateway([verifier]) as local,
        aio.insecure_channel(local.address) as connection,
    ):
        call = wire.gateway_stub(connection).Generate(wire.to_generate(asked(450)))
        for _ in range(3):
            await call.read()
        aborted = asyncio.Event()
        command, loop = verifier.verifier.command, asyncio.get_running_loop()
        (session,) = verifier.verifier._table

        def listen(said: object, gateway: object) -> None:
            command(said, gateway)  # type: ignore[arg-type]
            loop.call_soon_threadsafe(aborted.set)

        verifier.verifier.command = listen  # type: ignore[method-assign, assignment]
        call.cancel()
        await aborted.wait()
        length = len(session.tokens)
        await until(lambda: verifier.free_blocks == verifier.verifier.load()[3])
        assert len(session.tokens) == length


async def test_models_are_told_apart_and_have_to_be_named(target_path: Path, other_path: Path) -> None:
    async with (
        local_verifier(target_path, "large") as large,
        local_verifier(other_path, "small", Limits(max_sessions=1)) as small,
        local_gateway([large, small], bounds=Bounds(requests=0)) as local,
        GatewayClient(local.address) as client,
    ):
        texts = {name: tokens_of(await collect(client, asked(model=name))) for name in ("large", "small")}
        assert texts["large"] != texts["small"]
        for name, code in (("", grpc.StatusCode.INVALID_ARGUMENT), ("huge", grpc.StatusCode.NOT_FOUND)):
            with pytest.raises(aio.AioRpcError, match=f"model = '{name}': expected one of large, small") as caught:
                await collect(client, asked(model=name))
            assert caught.value.code() is code
        busy = client.generate(asked(400, model="small"))
        await anext(busy)
        with pytest.raises(aio.AioRpcError, match="small: 0 requests are waiting"):
            await collect(client, asked(model="small"))
        assert tokens_of(await collect(client, asked(model="large"))) == texts["large"]
        await busy.aclose()


async def test_prompts_with_a_common_beginning_share_a_verifier_until_it_is_busy(target_path: Path) -> None:
    system, limits = tuple(range(1, 49)), Limits(max_sessions=4)
    async with (
        local_verifier(target_path, limits=limits, step="2ms") as one,
        local_verifier(target_path, limits=limits, step="2ms") as other,
        local_gateway([one, other]) as local,
        GatewayClient(local.address) as client,
    ):
        chunks = [await collect(client, asked(2, prompt=(*system, *range(i, i + 16)))) for i in range(1, 5)]
        cached = [done[-1].completion.usage.cached_tokens for done in chunks if done[-1].completion]
        assert cached == [0, 48, 48, 48]
        streams = [client.generate(asked(200, prompt=(*system, 9))) for _ in range(8)]
        for stream in streams:
            await anext(stream)
        assert [worker.load for worker in local.gateway.verifiers] == [4, 4]
        for stream in streams:
            await stream.aclose()


async def test_a_refused_prompt_is_not_tokenized(target_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with (
        local_verifier(target_path, limits=Limits(max_sessions=1), step="2ms") as verifier,
        local_gateway([verifier], bounds=Bounds(requests=0)) as local,
    ):
        running = local.gateway.generate(asked(400))
        await anext(running)
        monkeypatch.setattr("gateway.service.open_session", None)
        with pytest.raises(ResourceExhausted, match="0 requests are waiting"):
            await anext(local.gateway.generate(asked()))
        await running.aclose()
