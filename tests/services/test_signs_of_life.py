"""A verifier that hangs, falls silent or is about to stop is noticed, and each of its sessions hears so once."""

from __future__ import annotations

import asyncio
import gc
import threading
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx2
import pytest
from grpc import aio

from gateway import workers
from gateway.callers import Callers
from gateway.fleet import Fleet
from gateway.http.app import make_app
from gateway.mailbox import Mailbox
from gateway.workers import VerifierWorker
from paceline import wire
from paceline.engine.runner import ModelRunner
from paceline.errors import Unavailable
from paceline.messages import AbortSession, DecodeCommand, OpenSession, Pulse, SessionEvent
from paceline.speculation.policy import Mode, SpeculationParameters
from paceline.speculation.sampling import SamplingParameters
from tests.local_fleet import LocalVerifier, local_gateway, local_verifier
from verifier_service import servicer
from verifier_service.attachment import GatewayLink
from verifier_service.servicer import PULSE_SECONDS

OFF = SpeculationParameters(mode=Mode.OFF)


def opening(name: str = "s", epoch: int = 1, tokens: int = 400) -> OpenSession:
    sampling = SamplingParameters(max_tokens=tokens, temperature=0.8, ignore_eos=True)
    return OpenSession(name, epoch, (5, 6, 7), 3, sampling, OFF, 1, b"secret", model="target")


class Hearing(Mailbox):
    """A mailbox that keeps what was put into it."""

    def __init__(self) -> None:
        super().__init__()
        self.heard: list[SessionEvent] = []

    def put_nowait(self, event: SessionEvent) -> None:
        self.heard.append(event)

    @property
    def tokens_heard(self) -> int:
        return sum(len(event.committed.token_ids) for event in self.heard if event.committed)

    @property
    def losses(self) -> list[str]:
        return [event.detail for event in self.heard if event.epoch == 0]


async def until(condition: Callable[[], Any], seconds: float = 10.0) -> None:
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110 - of another thread
            await asyncio.sleep(0.005)


@asynccontextmanager
async def joined(*verifiers: LocalVerifier) -> AsyncIterator[tuple[VerifierWorker, ...]]:
    """A gateway's workers, connected."""
    joining = tuple(VerifierWorker(verifier.address) for verifier in verifiers)
    for worker in joining:
        await worker.start()
    await until(lambda: all(worker.healthy for worker in joining))
    try:
        yield joining
    finally:
        await asyncio.gather(*(worker.close() for worker in joining))


class Hanging:
    """Makes a verifier's next forward hang until it is let go."""

    def __init__(self, verifier: LocalVerifier, monkeypatch: pytest.MonkeyPatch) -> None:
        self.go_on = threading.Event()
        runner: ModelRunner = verifier.verifier._runner
        forward = runner.forward

        def hang(*arguments: Any) -> Any:
            self.go_on.wait(20)
            return forward(*arguments)

        monkeypatch.setattr(runner, "forward", hang)


async def test_signs_of_life_come_each_quarter_of_a_second_while_nothing_else_is_said(target_path: Path) -> None:
    assert PULSE_SECONDS < 0.25
    async with local_verifier(target_path) as local, aio.insecure_channel(local.address) as channel:
        stream = wire.verifier_stub(channel).Decode()
        async with asyncio.timeout(10):
            messages = [await stream.read() for _ in range(5)]
        stream.cancel()
    assert [(wire.from_pulse(message), list(message.events)) for message in messages] == [(Pulse(), [])] * 5


async def test_that_it_drains_is_told_at_once(target_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(servicer, "PULSE_SECONDS", 60.0)
    async with local_verifier(target_path) as local, aio.insecure_channel(local.address) as channel:
        stream = wire.verifier_stub(channel).Decode()
        first = await stream.read()
        local.servicer.drain()
        async with asyncio.timeout(10):
            second = await stream.read()
        stream.cancel()
    assert [wire.from_pulse(message) for message in (first, second)] == [Pulse(), Pulse(draining=True)]


async def test_a_step_that_hangs_costs_its_sessions_no_more_than_the_wait(
    target_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They hear so, once; health says so over HTTP, too; and all is well again once the step is over."""
    async with (
        local_verifier(target_path, stall_seconds=0.3) as local,
        local_gateway([local]) as gateway,
        httpx2.AsyncClient(
            transport=httpx2.ASGITransport(make_app(gateway.gateway, Callers())), base_url="http://gateway"
        ) as http,
    ):
        (worker,), events, told_to = gateway.gateway.verifiers, Hearing(), list[DecodeCommand]()
        command = local.verifier.command

        def heard(said: DecodeCommand, link: GatewayLink) -> None:
            told_to.append(said)
            command(said, link)

        monkeypatch.setattr(local.verifier, "command", heard)
        assert (await http.get("/health")).status_code == 200
        worker.open(opening(), events)
        await until(lambda: events.tokens_heard > 3)
        hanging = Hanging(local, monkeypatch)
        await until(lambda: events.losses)
        assert (await http.get("/health")).json() == {"status": "no verifier is reachable"}
        assert (await http.get("/health")).status_code == 503
        assert [row.healthy for row in gateway.gateway.workers()] == [False]
        with pytest.raises(Unavailable):
            gateway.gateway.fleet.route(opening("other"))
        told = len(events.heard)
        hanging.go_on.set()
        await until(lambda: worker.healthy)
        assert (await http.get("/health")).status_code == 200
        await until(lambda: not local.verifier.busy)
        assert told_to[1:] == [AbortSession("s", 1)]
        await asyncio.sleep(2 * PULSE_SECONDS)
    assert events.losses == ["a step of the verifier hangs"]
    assert len(events.heard) == told, "nothing comes after a loss"


async def test_a_draining_verifier_hands_its_sessions_over_as_soon_as_there_is_another(target_path: Path) -> None:
    async with local_verifier(target_path, step="5ms") as old, local_verifier(target_path) as new:
        kept, events = VerifierWorker(new.address), Hearing()
        async with joined(old) as (worker,):
            fleet = Fleet([worker, kept], [])
            changes = list[int]()
            fleet.watch(lambda: changes.append(1))
            worker.open(opening(), events)
            await until(lambda: events.tokens_heard > 3)
            old.servicer.drain()
            await until(lambda: worker.draining)
            assert [row.healthy for row in fleet.rows()] == [False, False]
            said = events.tokens_heard
            await until(lambda: events.tokens_heard > said)
            assert (events.losses, worker.load) == ([], 1), "without an heir it goes on"
            await kept.start()
            await until(lambda: events.losses)
            assert fleet.route(opening()) is kept
            kept.open(replace(opening(), epoch=2), events)
            await until(lambda: any(event.epoch == 2 and event.committed for event in events.heard))
            await until(lambda: not old.verifier.busy)
            kept.forget("s", 2)
            await kept.close()
    assert events.losses == ["the verifier is draining"]
    assert changes


async def test_a_draining_verifier_refuses_new_sessions_as_if_it_were_lost(target_path: Path) -> None:
    """The request may be served elsewhere: that this verifier stops is no verdict on it."""
    events = Hearing()
    async with local_verifier(target_path) as local, joined(local) as (worker,):
        local.verifier.drain()  # before its gateways have heard
        worker.open(opening(), events)
        await until(lambda: events.heard)
        assert worker.load == 0
    assert events.losses == ["the verifier is draining"]
    assert [event.rejected for event in events.heard] == [None]


async def test_who_has_drained_ends_its_streams_after_the_last_word(target_path: Path) -> None:
    events = Hearing()
    async with local_verifier(target_path) as local, joined(local) as (worker,):
        worker.open(opening(tokens=30), events)
        await until(lambda: events.tokens_heard)
        local.servicer.drain()
        await until(lambda: not local.verifier.busy)
        local.servicer.close()
        await until(lambda: events.heard[-1].last)
    assert (events.tokens_heard, events.losses) == (30, [])


async def test_a_broken_stream_is_told_once_and_what_comes_late_is_not_told(target_path: Path) -> None:
    events = Hearing()
    async with local_verifier(target_path, step="5ms") as local, joined(local) as (worker,):
        worker.open(opening(), events)
        await until(lambda: events.tokens_heard > 3)
        local.servicer.close()
        await until(lambda: events.losses)
        assert worker.load == 0
        await until(lambda: worker.healthy)
        worker.open(replace(opening(), epoch=2), events)
        worker._deliver(SessionEvent("s", 1, detail="of the old epoch"))
        await until(lambda: events.heard[-1].epoch == 2)
        worker.forget("s", 2)
        await until(lambda: not local.verifier.busy)
    assert events.losses == ["the stream to the verifier broke"]
    assert "of the old epoch" not in [event.detail for event in events.heard]


async def test_a_new_incarnation_is_another_verifier(target_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "DESCRIBE_SECONDS", 0.05)
    events = Hearing()
    async with local_verifier(target_path, step="5ms") as local, joined(local) as (worker,):
        worker.open(opening(), events)
        await until(lambda: events.tokens_heard > 3)
        describe = local.servicer._describe
        monkeypatch.setattr(local.servicer, "_describe", lambda: replace(describe(), incarnation=7))
        await until(lambda: events.losses)
        told = len(events.heard)
        await until(lambda: worker.healthy)
        await until(lambda: not local.verifier.busy)
    assert (events.losses, len(events.heard)) == (["the verifier was restarted"], told)


async def test_a_gateway_that_was_held_up_itself_takes_no_verifier_for_dead(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "SILENCE_SECONDS", 0.6)
    monkeypatch.setattr(workers, "LISTEN_SECONDS", 0.1)
    worker, given_up = VerifierWorker("127.0.0.1:1"), list[str]()
    monkeypatch.setattr(worker, "_give_up", lambda _, detail: given_up.append(detail))
    listening = asyncio.create_task(worker._listen(None))  # type: ignore[arg-type]
    await asyncio.sleep(0)
    time.sleep(1.0)  # noqa: ASYNC251 - that is what it is about
    await asyncio.sleep(0.15)
    assert given_up == []
    await listening
    assert given_up == ["the verifier has fallen silent"]
    await worker.close()


async def test_looking_for_a_verifier_that_is_not_there_leaves_nothing_behind(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(workers, "RETRY_SECONDS", 0.001)
    worker, attempts, left_behind = VerifierWorker("127.0.0.1:1"), list[str](), list[dict[str, Any]]()
    monkeypatch.setattr(worker, "_lost", attempts.append)
    asyncio.get_running_loop().set_exception_handler(lambda _, context: left_behind.append(context))
    await worker.start()
    await until(lambda: len(attempts) > 20)
    await worker.close()
    gc.collect()
    await asyncio.sleep(0.01)
    assert left_behind == []


async def test_what_is_said_to_a_lost_verifier_is_dropped_but_no_session_is_opened_there() -> None:
    worker = VerifierWorker("127.0.0.1:1")
    worker.send(AbortSession("s", 1))
    with pytest.raises(Unavailable, match="not connected"):
        worker.open(opening(), Hearing())
    assert worker.load == 0
    await worker.close()
