"""What a fleet of processes tells a collector: one connected trace for each answer, also when its verifier dies."""

from __future__ import annotations

import asyncio
import itertools
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing
from dataclasses import dataclass, field, replace

import httpx2
import pytest
import pytest_asyncio

from paceline.client import GatewayClient
from paceline.cluster.local import LocalCluster
from paceline.cluster.topology import DrafterPool, ModelRoute, Topology, VerifierPool
from paceline.embedded import TARGET
from paceline.messages import Chunk, Completion, Generate
from paceline.speculation.sampling import SamplingParameters
from paceline.testing.collector import Collector, Seen
from tests.gateway.test_serving import until

pytestmark = pytest.mark.asyncio(loop_scope="module")

TOPOLOGY = Topology(
    models=(ModelRoute("target", str(TARGET), "verifier", ("ngram",)),),
    verifiers={"verifier": VerifierPool(replicas=2, emulate_step_time="8ms")},
    drafters={"ngram": DrafterPool("ngram")},
)
ASKED = Generate(
    text="def f(x):\n    return x\n\n" * 4,
    sampling=SamplingParameters(max_tokens=60, temperature=0.0, ignore_eos=True),
    seed=3,
)
LONG = replace(ASKED, sampling=replace(ASKED.sampling, max_tokens=700, temperature=1.0))
CLIENT_SPAN = "00f067aa0ba902b7"
KILLED, QUIET, SEVERAL, LEFT = (f"{number:032x}" for number in range(1, 5))
CLOCKS = 2_000_000
"""Nanoseconds that clocks of different processes may be apart: each is compared with the machine's once."""


@dataclass
class Story:
    """What was asked of the fleet, and what it told. Trace ids are those of the constants, where there is none here."""

    collector: Collector
    plain: tuple[str, Completion] = field(init=False)
    killed: Completion = field(init=False)
    resumed: tuple[str, Completion] = field(init=False)


def traceparent(trace_id: str, *, sampled: bool = True) -> str:
    return f"00-{trace_id}-{CLIENT_SPAN}-{int(sampled):02x}"


async def answer(client: GatewayClient, asked: Generate, context: str = "") -> list[Chunk]:
    return [chunk async for chunk in client.generate(asked, context)]


def completion(chunks: list[Chunk]) -> Completion:
    assert chunks[-1].completion is not None
    return chunks[-1].completion


async def drafted(client: GatewayClient) -> tuple[str, Completion, str]:
    """An answer that a drafter has had a part in, and a token from its midst; the first ones may be without."""
    async with asyncio.timeout(60):
        while True:
            chunks = await answer(client, ASKED)
            done = completion(chunks)
            if done.overlap.accepted_nodes:
                return done.trace_id, done, chunks[len(chunks) // 2].resume_token


async def killed(cluster: LocalCluster, client: GatewayClient, collector: Collector) -> Completion:
    """An answer whose verifier is killed once it has told of some steps."""
    chunks = list[Chunk]()
    async with aclosing(client.generate(LONG, traceparent(KILLED))) as stream:
        async for chunk in stream:
            chunks.append(chunk)
            if any(span.name == "step" for span in collector.trace(KILLED)):
                break
        assert chunks[-1].completion is None
        (where,) = {span.instance.partition("@")[0] for span in collector.trace(KILLED) if span.name == "step"}
        cluster.kill(where)
        chunks += [chunk async for chunk in stream]
    return completion(chunks)


async def left(client: GatewayClient) -> None:
    async with aclosing(client.generate(LONG, traceparent(LEFT))) as stream:
        async for chunk in stream:
            if chunk.token_ids:
                break


async def several(http_address: str) -> None:
    asked = {"model": "target", "prompt": "def f(x):", "max_tokens": 5, "n": 2}
    async with httpx2.AsyncClient(base_url=f"http://{http_address}") as http:
        reply = await http.post("/v1/completions", json=asked, headers={"traceparent": traceparent(SEVERAL)})
    assert len(reply.json()["choices"]) == 2


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def story() -> AsyncIterator[Story]:
    """Everything is told once the fleet has ended."""
    async with Collector() as collector:
        story = Story(collector)
        with pytest.MonkeyPatch.context() as environment:
            for service in ("GATEWAY", "VERIFIER", "DRAFTER"):
                environment.setenv(f"PACELINE_{service}_OTLP", collector.url)
            environment.setenv("PACELINE_GATEWAY_TRACE_RATIO", "1")
            environment.setenv("OTEL_BSP_SCHEDULE_DELAY", "50")
            async with LocalCluster(TOPOLOGY) as cluster, GatewayClient(cluster.gateway_address) as client:
                *story.plain, token = await drafted(client)  # type: ignore[assignment]
                rest = completion([chunk async for chunk in client.resume(token)])
                story.resumed = rest.trace_id, rest
                await answer(client, ASKED, traceparent(QUIET, sampled=False))
                await several(cluster.http_address)
                await left(client)
                story.killed = await killed(cluster, client, collector)
                await until(lambda: any(span.name == "generate" for span in collector.trace(KILLED)))
        yield story


def named(spans: list[Seen], name: str) -> list[Seen]:
    return [span for span in spans if span.name == name]


def root(spans: list[Seen], parent_id: str = "") -> Seen:
    """The trace's one first span; all others hang on it, and begin in it."""
    known = {span.span_id: span for span in spans}
    assert len(known) == len(spans)
    (first,) = [span for span in spans if span.parent_id == parent_id]
    for span in spans:
        assert span.start <= span.end
        if span is not first:
            assert span.parent_id in known, f"{span.name} hangs on nothing"
            assert known[span.parent_id].start <= span.start + CLOCKS
    return first


def check_steps(spans: list[Seen], epoch: int) -> list[Seen]:
    """They tile the time from the first root to the session's end at the verifier."""
    here = [span for span in spans if span.attributes.get("paceline.epoch") == epoch]
    steps, (session,), (prefill,) = named(here, "step"), named(here, "session"), named(here, "prefill")
    for before, step in itertools.pairwise(steps):
        assert abs(step.start - before.end) <= 1000
    for step in steps:
        assert step.start <= step.events["launched"] <= step.end
        assert step.attributes["paceline.wait_seconds"] == pytest.approx(
            (step.events["launched"] - step.start) / 1e9, abs=1e-6
        )
    after_prefill = [step for step in steps if step.end > prefill.end + 1_000_000]
    decoding = (session.end - prefill.end) / 1e9
    assert sum(step.seconds for step in after_prefill) == pytest.approx(decoding, rel=0.05)
    return steps


def check_links(spans: list[Seen]) -> Iterator[Seen]:
    """Steps are linked to the growths that their nodes come from; those are linked to."""
    known = {span.span_id: span for span in spans}
    for step in named(spans, "step"):
        assert bool(step.links) is (step.attributes["paceline.verified"] > 0)
        for trace_id, span_id in step.links:
            growth = known[span_id]
            assert (growth.name, growth.trace_id) == ("growth", trace_id)
            assert growth.start <= growth.end <= step.events["launched"] + CLOCKS
            yield growth


async def test_an_answer_is_one_connected_trace(story: Story) -> None:
    spans = story.collector.trace(story.plain[0])
    first = root(spans)
    assert (first.name, first.kind, first.service, first.failed) == ("generate", "server", "paceline-gateway", False)
    counts = Counter(span.name for span in spans)
    assert [counts[name] for name in ("tokenize", "queue", "decode", "session", "prefill")] == [1, 2, 1, 1, 1]
    assert {span.service for span in spans} == {"paceline-gateway", "paceline-verifier", "paceline-drafter"}
    (decode,) = named(spans, "decode")
    assert decode.parent_id == first.span_id
    of_workers = [span for span in spans if span.service != "paceline-gateway"]
    assert {span.parent_id for span in of_workers} == {decode.span_id}
    assert decode.attributes["paceline.verifier"] == named(spans, "session")[0].instance.partition("@")[0]


async def test_its_steps_are_all_of_the_text_and_of_the_time(story: Story) -> None:
    trace_id, done = story.plain
    spans = story.collector.trace(trace_id)
    steps = check_steps(spans, epoch=1)
    assert len(steps) == done.overlap.steps
    assert sum(step.attributes["paceline.emitted"] for step in steps) == done.usage.completion_tokens == 60
    assert sum(step.attributes["paceline.accepted"] for step in steps) == done.overlap.accepted_nodes
    assert sum(step.attributes["paceline.verified"] for step in steps) == done.overlap.verified_nodes


async def test_its_steps_are_linked_to_the_growths_that_they_verified(story: Story) -> None:
    spans = story.collector.trace(story.plain[0])
    assert list(check_links(spans))
    (draft,) = named(spans, "draft")
    growths = named(spans, "growth")
    assert draft.attributes["paceline.growths"] == len(growths)
    assert draft.attributes["paceline.nodes"] == sum(span.attributes["paceline.nodes"] for span in growths)
    assert draft.attributes["paceline.drafter"] == draft.instance.partition("@")[0]
    assert "joined" in draft.events


async def test_its_first_span_says_what_it_came_to(story: Story) -> None:
    trace_id, done = story.plain
    said = root(story.collector.trace(trace_id)).attributes
    assert said["gen_ai.operation.name"] == "text_completion"
    assert said["gen_ai.request.model"] == "target"
    assert said["gen_ai.usage.input_tokens"] == done.usage.prompt_tokens
    assert said["gen_ai.usage.output_tokens"] == 60
    assert said["gen_ai.response.finish_reasons"] == ["length"]
    assert said["paceline.ttft_seconds"] == pytest.approx(done.ttft_seconds)


async def test_a_killed_verifier_leaves_one_connected_trace(story: Story) -> None:
    """What it had told of is in it; its successor is a sibling."""
    spans = story.collector.trace(KILLED)
    first = root(spans, CLIENT_SPAN)
    lost, heir = named(spans, "decode")
    assert {span.parent_id for span in (lost, heir)} == {first.span_id}
    assert (lost.failed, heir.failed, first.failed) == (True, False, False)
    assert "failed" in lost.events
    assert lost.end <= heir.start
    assert lost.attributes["paceline.verifier"] != heir.attributes["paceline.verifier"]
    assert [span.attributes["paceline.epoch"] for span in (lost, heir)] == [1, 2]
    of_first = [step for step in named(spans, "step") if step.parent_id == lost.span_id]
    assert of_first
    assert {step.attributes["paceline.epoch"] for step in of_first} == {1}
    steps = check_steps(spans, epoch=2)
    assert {step.parent_id for step in steps} == {heir.span_id}
    emitted = sum(step.attributes["paceline.emitted"] for step in steps)
    assert heir.attributes["paceline.committed"] + emitted == story.killed.usage.completion_tokens == 700
    assert story.killed.trace_id == KILLED
    list(check_links(spans))


async def test_a_resumed_answer_is_a_trace_that_is_linked_to_the_first(story: Story) -> None:
    trace_id, _ = story.resumed
    before = root(story.collector.trace(story.plain[0]))
    first = root(story.collector.trace(trace_id))
    assert (first.name, first.links) == ("resume", ((before.trace_id, before.span_id),))
    assert trace_id != before.trace_id


async def test_a_client_decides_for_its_own_requests(story: Story) -> None:
    assert story.collector.trace(QUIET) == []


async def test_choices_of_one_request_are_one_trace(story: Story) -> None:
    spans = story.collector.trace(SEVERAL)
    first = root(spans, CLIENT_SPAN)
    assert first.name == "request"
    assert [span.parent_id for span in named(spans, "generate")] == [first.span_id] * 2


async def test_the_span_of_a_client_that_leaves_ends(story: Story) -> None:
    first = root(story.collector.trace(LEFT), CLIENT_SPAN)
    assert (first.failed, "client left" in first.events) == (False, True)


async def test_nothing_that_was_said_is_in_a_span(story: Story) -> None:
    assert not [span for span in story.collector.spans if "return x" in repr(span)]
