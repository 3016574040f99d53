"""A verifier may die at any moment, and clients see one unbroken, correct text.

In deterministic numerics, so that equal is bitwise equal.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace

import grpc
import pytest
import pytest_asyncio
from grpc import aio

from drafter_service.config import DrafterConfig
from gateway.service import Gateway
from paceline.client import GatewayClient
from paceline.embedded import TARGET
from paceline.engine.runner import Numerics
from paceline.messages import Chunk, FinishReason, Generate
from paceline.rpc import RESUME_TOKEN
from paceline.speculation.grammar import Grammar, GrammarKind
from paceline.speculation.policy import Mode, SpeculationParameters
from paceline.speculation.sampling import SamplingParameters
from tests.gateway.test_serving import until
from tests.local_fleet import LocalVerifier, local_drafter, local_gateway, local_verifier

GREEDY = SamplingParameters(max_tokens=40, temperature=0.0, ignore_eos=True)
SAMPLED = replace(GREEDY, temperature=0.9)
REQUESTS = {
    "greedy": GREEDY,
    "sampled": SAMPLED,
    "penalties": replace(SAMPLED, presence_penalty=0.7, frequency_penalty=0.4, repetition_penalty=1.2),
    "min_tokens": replace(SAMPLED, ignore_eos=False, min_tokens=30),
    "logprobs": replace(SAMPLED, logprobs=3),
    "grammar": replace(
        SAMPLED, ignore_eos=False, grammar=Grammar(GrammarKind.REGEX, "(one|two|three)( (one|two|three)){12}")
    ),
}


@dataclass
class Fleet:
    """A gateway with two verifiers, of which any may be ended."""

    gateway: Gateway
    client: GatewayClient
    verifiers: dict[str, tuple[LocalVerifier, AsyncExitStack]]

    async def end(self, address: str) -> None:
        await self.verifiers.pop(address)[1].aclose()

    @property
    def where(self) -> str:
        """The verifier of the one session there is."""
        (running,) = self.gateway._running.values()
        assert running.seat is not None
        return running.seat.verifier.address


@pytest_asyncio.fixture
async def fleet() -> AsyncIterator[Fleet]:
    async with AsyncExitStack() as stack:
        verifiers = {}
        for _ in range(2):
            own = await stack.enter_async_context(AsyncExitStack())
            verifier = await own.enter_async_context(
                local_verifier(TARGET, step="4ms", numerics=Numerics.DETERMINISTIC)
            )
            verifiers[verifier.address] = (verifier, own)
        addresses = tuple(verifiers)
        drafter = await stack.enter_async_context(local_drafter(DrafterConfig("ngram", verifiers=addresses, port=0)))
        local = await stack.enter_async_context(
            local_gateway([verifier for verifier, _ in verifiers.values()], [drafter], failover_seconds=0.3)
        )
        client = await stack.enter_async_context(GatewayClient(local.address, patience_seconds=0))
        yield Fleet(local.gateway, client, verifiers)


def asked(sampling: SamplingParameters, mode: Mode = Mode.OVERLAPPED) -> Generate:
    text = "def add(a, b):\n    return a + b\n\ndef sub(a, b):"
    return Generate(text=text, sampling=sampling, speculation=SpeculationParameters(mode=mode), seed=11)


async def read(fleet: Fleet, request: Generate, end_after: int | None = None) -> list[Chunk]:
    """The answer; the session's verifier is ended when so many tokens are there."""
    chunks, tokens = list[Chunk](), 0
    async for chunk in fleet.client.generate(request):
        chunks.append(chunk)
        tokens += len(chunk.token_ids)
        if end_after is not None and tokens >= end_after and not chunk.completion:
            await fleet.end(fleet.where)
            end_after = None
    return chunks


def said(chunks: list[Chunk]) -> tuple[str, list[int], list[float]]:
    token_ids = [token_id for chunk in chunks for token_id in chunk.token_ids]
    logprobs = [entry.logprob for chunk in chunks for entry in chunk.logprobs]
    return "".join(chunk.text for chunk in chunks), token_ids, logprobs


@pytest.mark.parametrize("kind", REQUESTS)
async def test_the_text_goes_on_as_if_nothing_had_happened(fleet: Fleet, kind: str) -> None:
    request = asked(REQUESTS[kind])
    undisturbed = await read(fleet, request)
    disturbed = await read(fleet, request, end_after=7)
    assert len(fleet.verifiers) == 1, "one was ended, while the session was there"
    assert said(disturbed) == said(undisturbed)
    positions = [chunk.position for chunk in disturbed if chunk.token_ids]
    assert positions == sorted(set(positions))
    before, after = undisturbed[-1].completion, disturbed[-1].completion
    assert before is not None
    assert after is not None
    assert (after.finish_reason, after.usage.prompt_tokens, after.usage.completion_tokens) == (
        before.finish_reason, before.usage.prompt_tokens, before.usage.completion_tokens,
    )  # fmt: skip


async def test_a_timeline_goes_on_where_the_session_does(fleet: Fleet) -> None:
    """Both verifiers' steps in one, each after its own placing, and together they say the text."""
    watched = SpeculationParameters(mode=Mode.LOCKSTEP, events=True)
    chunks = await read(fleet, replace(asked(SAMPLED), speculation=watched), end_after=12)
    done = chunks[-1].completion
    assert done is not None
    (answer,) = (await fleet.client.timeline(done.trace_id))["answers"]
    events = answer["events"]
    placed = [event for event in events if event["type"] == "placed"]
    assert [event["epoch"] for event in placed] == [1, 2]
    assert answer["started"] <= placed[0]["opened"] < placed[1]["opened"]
    assert [event["name"] for event in events if event.get("role") == "gateway"] == ["tokenize", "queue"]
    assert any(event["type"] == "step" for event in events[events.index(placed[1]) :])
    steps = [event for event in events if event["type"] == "step"]
    assert [token_id for step in steps for token_id in step["token_ids"]] == said(chunks)[1]
    first, again = (index for index, event in enumerate(events) if event["type"] == "placed")
    last = max(event["decided"] for event in events[first:again] if event["type"] == "step")
    assert placed[0]["opened"] + last <= placed[1]["opened"] + 1e-3


async def test_drafters_go_on_at_the_next_verifier(fleet: Fleet) -> None:
    sampling = replace(GREEDY, max_tokens=200)
    chunks = await read(fleet, asked(sampling), end_after=10)
    done = chunks[-1].completion
    assert done is not None
    (drafter,) = done.overlap.drafters
    ((verifier, _),) = fleet.verifiers.values()
    assert drafter.accepted > 0
    await until(lambda: not verifier.verifier.busy)


async def test_without_any_verifier_a_session_waits_and_then_says_how_to_go_on(fleet: Fleet) -> None:
    request = asked(SAMPLED, Mode.OFF)
    whole = said(await read(fleet, request))
    chunks = list[Chunk]()

    async def read_and_end() -> None:
        async for chunk in fleet.client.generate(request):
            chunks.append(chunk)
            if len(chunks) == 3:
                for address in list(fleet.verifiers):
                    await fleet.end(address)

    with pytest.raises(aio.AioRpcError) as caught:
        await read_and_end()
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
    token = dict(caught.value.trailing_metadata() or ())[RESUME_TOKEN]
    assert token == chunks[-1].resume_token
    async with (
        local_verifier(TARGET, numerics=Numerics.DETERMINISTIC) as verifier,
        local_gateway([verifier], journal=fleet.gateway.journal) as other,
        GatewayClient(other.address) as client,
    ):
        rest = [chunk async for chunk in client.resume(str(token))]
    assert said([*chunks, *rest]) == whole


async def test_a_session_that_is_aborted_while_it_has_no_verifier_ends_so(fleet: Fleet) -> None:
    stream = fleet.client.generate(asked(GREEDY, Mode.OFF))
    chunks = [await anext(stream), await anext(stream)]
    for address in list(fleet.verifiers):
        await fleet.end(address)
    await fleet.client.abort(chunks[0].session_id)
    chunks += [chunk async for chunk in stream]
    done = chunks[-1].completion
    assert done is not None
    assert done.finish_reason is FinishReason.ABORT


async def test_nothing_is_left_of_sessions_that_have_moved(fleet: Fleet) -> None:
    async def one(seed: int) -> None:
        async with contextlib.aclosing(fleet.client.generate(replace(asked(SAMPLED), seed=seed))) as stream:
            async for chunk in stream:
                if seed % 3 == 0 and chunk.position > 20:
                    return  # some clients leave

    running = [asyncio.create_task(one(seed)) for seed in range(12)]
    await until(lambda: sum(len(each.committed) for each in fleet.gateway._running.values()) >= 60)
    await fleet.end(next(iter(fleet.verifiers)))
    await asyncio.gather(*running)
    ((verifier, _),) = fleet.verifiers.values()
    await until(lambda: verifier.idle and not verifier.verifier.busy and not fleet.gateway._running)
    assert all(worker.load == 0 for worker in fleet.gateway.verifiers)
    assert all(worker.attached == 0 for worker in fleet.gateway.drafters)
    assert fleet.gateway.admission.statistics()["target"].running == 0
