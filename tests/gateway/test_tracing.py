"""Whose trace an answer belongs to, what its spans say when it fails, and that clients pass their own on."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, aclosing
from dataclasses import dataclass, replace
from pathlib import Path

import grpc
import pytest
import pytest_asyncio
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import StatusCode, use_span

from gateway.admission import Bounds
from paceline import wire
from paceline.client import BlockingGatewayClient, GatewayClient
from paceline.cluster.journal import MemoryJournal
from paceline.messages import Chunk, Completion, Generate
from paceline.speculation.sampling import SamplingParameters
from paceline.telemetry import OFF
from paceline.telemetry.context import TRACEPARENT
from tests.local_fleet import LocalGateway, local_gateway, local_verifier
from tests.telemetry.spans import SAMPLED, SPAN, TRACE, UNSAMPLED, Recorded, parent_id, said

ASKED = Generate(token_ids=(1, 2, 3), sampling=SamplingParameters(max_tokens=8, ignore_eos=True), seed=1)
CONTEXT = (TRACEPARENT, SAMPLED)
LONG = replace(ASKED, sampling=replace(ASKED.sampling, max_tokens=200))


@dataclass
class Fleet:
    """Two gateways with one journal; the second one counts and traces nothing by itself."""

    traced: LocalGateway
    silent: LocalGateway
    recorded: Recorded
    """Of the first."""

    def the(self, name: str) -> ReadableSpan:
        (span,) = self.recorded.named(name)
        return span


@pytest_asyncio.fixture
async def fleet(target_path: Path) -> AsyncIterator[Fleet]:
    recorded, journal = Recorded(), MemoryJournal()
    async with AsyncExitStack() as stack:
        verifier = await stack.enter_async_context(local_verifier(target_path))
        traced, silent = [
            await stack.enter_async_context(local_gateway([verifier], journal=journal, telemetry=telemetry))
            for telemetry in (recorded.telemetry, OFF)
        ]
        yield Fleet(traced, silent, recorded)


async def last(stream: AsyncIterator[Chunk]) -> Completion:
    done = [chunk async for chunk in stream][-1].completion
    assert done is not None
    return done


async def test_a_client_is_the_parent_of_its_answers(fleet: Fleet) -> None:
    """By what it says, or by its current span; also one that is made for threads."""
    here = Recorded(ratio=1.0).telemetry.tracer.start_span("here")
    context = here.get_span_context()
    async with GatewayClient(fleet.traced.address) as client:
        assert (await last(client.generate(ASKED, SAMPLED))).trace_id == TRACE
        with use_span(here):
            assert (await last(client.generate(ASKED))).trace_id == f"{context.trace_id:032x}"
            await client.models()

    def ask() -> None:
        with BlockingGatewayClient(fleet.traced.address) as client, use_span(here):
            list(client.generate(ASKED))
            list(client.generate(ASKED, UNSAMPLED))
            client.models()

    await asyncio.to_thread(ask)
    ours = f"{context.span_id:016x}"
    assert [parent_id(span) for span in fleet.recorded.named("generate")] == [SPAN, ours, ours]
    listings = fleet.recorded.named("ListModels")
    assert [parent_id(listing) for listing in listings] == [ours, ours]
    assert {said(listing, "rpc.service") for listing in listings} == {"paceline.v1.GatewayService"}
    assert {said(listing, "rpc.grpc.status_code") for listing in listings} == {0}


async def test_calls_of_who_is_not_traced_are_no_spans(fleet: Fleet) -> None:
    async with GatewayClient(fleet.traced.address) as client:
        await client.models()
        await last(client.generate(ASKED))
    assert fleet.recorded.spans == []


async def test_a_gateway_without_a_collector_passes_contexts_on(fleet: Fleet) -> None:
    async with GatewayClient(fleet.silent.address) as client:
        assert (await last(client.generate(ASKED, SAMPLED))).trace_id == TRACE
        assert (await last(client.generate(ASKED, "nonsense"))).trace_id == ""


async def test_what_goes_on_with_a_traced_answer_is_linked_to_it(fleet: Fleet) -> None:
    """It was begun at a gateway that the client's trace has passed through."""
    async with GatewayClient(fleet.silent.address) as silent, GatewayClient(fleet.traced.address) as client:
        chunks = [chunk async for chunk in silent.generate(ASKED, SAMPLED)]
        await last(client.resume(chunks[0].resume_token))
    (link,) = fleet.the("resume").links
    assert (f"{link.context.trace_id:032x}", f"{link.context.span_id:016x}") == (TRACE, SPAN)
    assert parent_id(fleet.the("resume")) == ""


async def test_a_request_that_joins_one_by_its_key_is_linked_to_it(fleet: Fleet) -> None:
    asked = replace(ASKED, idempotency_key="once")
    async with GatewayClient(fleet.traced.address) as client:
        await last(client.generate(asked, SAMPLED))
        await last(client.generate(asked, SAMPLED))
    first, second = fleet.recorded.named("generate")
    assert not first.links
    assert [link.context.span_id for link in second.links] == [first.context.span_id]


async def test_a_request_that_fails_says_so_and_quotes_nothing(fleet: Fleet) -> None:
    asked = Generate(token_ids=(1, 987654321), sampling=ASKED.sampling)
    async with GatewayClient(fleet.traced.address) as client:
        with pytest.raises(grpc.aio.AioRpcError):
            await last(client.generate(asked, SAMPLED))
        with pytest.raises(grpc.aio.AioRpcError):
            await client._stubs.current.Abort(wire.gateway.AbortRequest(session_id="s"), metadata=(CONTEXT,))
    for name in ("generate", "tokenize"):
        span = fleet.the(name)
        assert span.status.status_code is StatusCode.ERROR
        assert said(span, "error.type") == "FieldError"
        assert "987654321" not in span.to_json()
    aborting = fleet.the("Abort")
    assert aborting.status.status_code is StatusCode.ERROR
    assert said(aborting, "rpc.grpc.status_code") == grpc.StatusCode.NOT_FOUND.value[0]


async def test_a_request_that_waited_in_vain_says_where(target_path: Path) -> None:
    recorded, bounds = Recorded(), Bounds(wait_seconds=0.05)
    async with (
        local_verifier(target_path, step="20ms") as verifier,
        local_gateway([verifier], (), bounds, sessions_per_verifier=1, telemetry=recorded.telemetry) as local,
        GatewayClient(local.address) as client,
        aclosing(client.generate(LONG, UNSAMPLED)) as running,
    ):
        await anext(running)
        with pytest.raises(grpc.aio.AioRpcError):
            await last(client.generate(ASKED, SAMPLED))
    assert [span.name for span in recorded.spans] == ["generate", "tokenize", "queue"]
    queue = recorded.spans[-1]
    assert said(queue, "error.type") == said(recorded.spans[0], "error.type") == "ResourceExhausted"
