"""Timelines that a gateway keeps: whole, bounded, and their caller's alone."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc import aio

from drafter_service.config import DrafterConfig
from gateway import timelines
from gateway.callers import Callers, KeyEntry, hash_key
from gateway.text import TextCodec
from gateway.timelines import Laps, Notes, Timelines
from paceline.client import GatewayClient
from paceline.errors import UnknownTimeline
from paceline.messages import (
    Chunk,
    Generate,
    JournaledSession,
    NodesArrived,
    OpenSession,
    PhaseEnded,
    SessionEvent,
    SessionPlaced,
    StepDecided,
    TokenizerFiles,
)
from paceline.speculation.policy import Mode, SpeculationParameters
from paceline.speculation.sampling import SamplingParameters
from paceline.telemetry import hear
from tests.local_fleet import local_drafter, local_gateway, local_verifier

WATCHED = SpeculationParameters(mode=Mode.LOCKSTEP, events=True)
CODEC = TextCodec(TokenizerFiles("", b"", "", {}))


def asked(speculation: SpeculationParameters = WATCHED) -> Generate:
    sampling = SamplingParameters(max_tokens=24, temperature=0.0, ignore_eos=True)
    return Generate(token_ids=(5, 6, 7, 5, 6), sampling=sampling, speculation=speculation, seed=3)


def session(name: str = "s", caller: str = "alice", *, events: bool = True, trace: int = 1) -> JournaledSession:
    quiet = SpeculationParameters(events=events)
    context = f"00-{trace:032x}-{1:016x}-01"
    opening = OpenSession(name, 1, (1,), 1, SamplingParameters(), quiet, 7, b"k", traceparent=context)
    return JournaledSession(opening, caller, 7, (), (), b"")


def placed(opened: float) -> SessionPlaced:
    return SessionPlaced("big", 1, opened)


def news(*events: Any) -> SessionEvent:
    return SessionEvent("s", 1, events=events)


def begun(kept: Timelines, what: JournaledSession) -> Notes:
    notes = kept.begin(what, CODEC, Laps())
    assert notes is not None
    notes.asks()
    return notes


async def found(kept: Timelines, trace: int = 1, caller: str = "alice") -> list[dict[str, Any]]:
    answers: list[dict[str, Any]] = json.loads(await kept.find(f"{trace:032x}", caller))["answers"]
    return answers


async def test_an_answer_with_events_leaves_its_timeline(target_path: Path) -> None:
    """The same events that its client was told; the gateway's own phases come before the verifier's."""
    async with local_verifier(target_path) as verifier:
        config = DrafterConfig(kind="ngram", model=str(target_path), name="looking", verifiers=(verifier.address,))
        async with (
            local_drafter(config) as drafter,
            local_gateway([verifier], [drafter]) as local,
            GatewayClient(local.address) as client,
        ):
            chunks = [chunk async for chunk in client.generate(asked())]
            done = chunks[-1].completion
            assert done is not None
            (answer,) = (await client.timeline(done.trace_id))["answers"]
            with pytest.raises(aio.AioRpcError) as caught:
                await client.timeline("0" * 32)
            assert caught.value.code() is grpc.StatusCode.NOT_FOUND
    events = answer["events"]
    assert len(events) == sum(len(chunk.events) for chunk in chunks)
    assert events[0]["type"] == "placed"
    phases = [(event["role"], event["name"]) for event in events if event["type"] == "phase"]
    assert phases[:3] == [("gateway", "tokenize"), ("gateway", "queue"), ("verifier", "queue")]
    tokenize, queue = events[1:3]
    assert events[0]["opened"] + tokenize["started"] == pytest.approx(answer["started"], abs=1e-3)
    assert tokenize["started"] <= tokenize["ended"] == queue["started"] <= queue["ended"] <= 1e-3
    said = [token_id for event in events if event["type"] == "step" for token_id in event["token_ids"]]
    assert said == [token_id for chunk in chunks for token_id in chunk.token_ids]
    assert {str(token_id) for token_id in said} <= answer["texts"].keys() or not answer["texts"]
    assert answer["finish"]["reason"] == "length"
    assert answer["finish"]["tokens"] == len(said)
    assert 0 < answer["finish"]["ttft"] <= answer["finish"]["ended"]
    assert (answer["mode"], answer["seed"], answer["cut"]) == ("lockstep", 3, False)


async def test_a_traced_answer_is_kept_and_its_client_told_nothing(target_path: Path) -> None:
    """Whoever did not ask for events gets the same chunks as without a trace."""
    context = f"00-{9:032x}-{1:016x}-01"
    quiet = asked(SpeculationParameters(mode=Mode.OFF))
    async with local_verifier(target_path) as verifier, local_gateway([verifier]) as local:
        hear("")
        untraced = [chunk async for chunk in local.gateway.generate(quiet)]
        hear(context)
        traced = [chunk async for chunk in local.gateway.generate(quiet)]
        kept = json.loads(await local.gateway.timeline(f"{9:032x}"))
        assert untraced[-1].completion is not None
        assert untraced[-1].completion.trace_id == ""
    for chunks in (untraced, traced):
        assert all(chunk.events == () and chunk.drafters == () for chunk in chunks)
        assert all(chunk.token_ids or chunk.seed is not None or chunk.completion for chunk in chunks)
    assert tokens(untraced) == tokens(traced)
    steps = [event for event in kept["answers"][0]["events"] if event["type"] == "step"]
    assert [token_id for step in steps for token_id in step["token_ids"]] == tokens(traced)


def tokens(chunks: list[Chunk]) -> list[int]:
    return [token_id for chunk in chunks for token_id in chunk.token_ids]


async def test_a_timeline_is_its_callers_alone(target_path: Path) -> None:
    callers = Callers([KeyEntry(name, hash_key(f"pl-{name}")) for name in ("alice", "bob")])
    async with (
        local_verifier(target_path) as verifier,
        local_gateway([verifier], callers=callers) as local,
        GatewayClient(local.address, "pl-alice") as alice,
        GatewayClient(local.address, "pl-bob") as bob,
        GatewayClient(local.address, "pl-mallory") as mallory,
    ):
        chunks = [chunk async for chunk in alice.generate(asked())]
        done = chunks[-1].completion
        assert done is not None
        assert (await alice.timeline(done.trace_id))["answers"]
        for client, code in ((bob, grpc.StatusCode.NOT_FOUND), (mallory, grpc.StatusCode.UNAUTHENTICATED)):
            with pytest.raises(aio.AioRpcError) as caught:
                await client.timeline(done.trace_id)
            assert caught.value.code() is code


async def test_answers_of_one_trace_are_found_together_in_order() -> None:
    kept = Timelines()
    for name in ("one", "two"):
        begun(kept, session(name)).close(failed=False)
    begun(kept, session("other", trace=2))
    begun(kept, session("bob's", "bob"))
    assert [answer["session"] for answer in await found(kept)] == ["one", "two"]
    assert [answer["session"] for answer in await found(kept, caller="bob")] == ["bob's"]
    assert [answer["finish"] and answer["finish"]["reason"] for answer in await found(kept)] == ["abort", "abort"]


def test_who_is_not_watched_leaves_nothing() -> None:
    quiet = session(events=False)
    unsampled = replace(quiet.opening, traceparent=quiet.opening.traceparent[:-1] + "0")
    assert Timelines().begin(replace(quiet, opening=unsampled), CODEC, Laps()) is None


async def test_the_oldest_go_where_there_are_too_many() -> None:
    kept = Timelines(most_answers=3)
    notes = [begun(kept, session(str(index), trace=index + 1)) for index in range(5)]
    notes[0].hear(news(placed(time.time())))
    assert kept.size == 0
    for trace in (1, 2):
        with pytest.raises(UnknownTimeline):
            await found(kept, trace)
    assert len(await found(kept, 5)) == 1


async def test_a_flood_of_nodes_costs_a_bounded_amount(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of all together, and of one: what is too much of one is left out, and said."""
    monkeypatch.setattr(timelines, "MAX_BYTES_EACH", 40_000)
    most = 100_000
    kept, ids = Timelines(most_bytes=most), tuple(range(1, 101))
    for index in range(6):
        notes = begun(kept, session(str(index), trace=index + 1))
        for _ in range(100):
            assert len(notes.hear(news(NodesArrived(1.0, "d", ids, ids, ids, ids, (-1.0,) * 100))).events) == 1
        assert notes.size <= 40_000
        assert kept.size <= most
    assert kept.size > most // 2
    (answer,) = await found(kept, 6)
    assert answer["cut"]
    assert 0 < len(answer["events"]) < 100
    with pytest.raises(UnknownTimeline):
        await found(kept, 1)


async def test_a_verifier_that_is_off_by_the_clock_is_set_right() -> None:
    for off in (-3600.0, 3600.0):
        kept, before = Timelines(), time.time()
        laps = Laps()
        laps.lap("tokenize", 4)
        notes = kept.begin(session(), CODEC, laps)
        assert notes is not None
        notes.asks()
        told = notes.hear(news(placed(before + off), StepDecided(0.0, 0.0, 0.1, (), (), (3,), 1)))
        first, phase = told.events[:2]
        assert isinstance(first, SessionPlaced)
        assert before <= first.opened_unix_seconds <= time.time()
        assert isinstance(phase, PhaseEnded)
        assert (phase.role, phase.tokens) == ("gateway", 4)
        assert -1 < phase.started <= phase.ended <= 0
        again = notes.hear(news(placed(time.time())))
        assert len(again.events) == 1, "the gateway's own phases were told already"
