"""Tokens that clients have, that the gateway counts and that verifiers have told are the same, whatever happens."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass, field

from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.service import Gateway
from gateway.workers import VerifierWorker
from paceline.errors import PacelineError
from paceline.messages import (
    Chunk,
    CommittedTokens,
    Completion,
    FinishReason,
    Generate,
    OverlapStatistics,
    SessionEvent,
    StepCounts,
)
from paceline.speculation.sampling import SamplingParameters
from tests.gateway.test_publishing import PROMPT, verifier

STOP = "STOP"
TURNS = 30
"""Of the event loop, until nothing moves any more."""

Action = str | tuple[list[str], int]

steps = st.tuples(st.lists(st.sampled_from([*"x = 1\n", STOP, STOP[:2]]), min_size=1, max_size=4), st.integers(0, 6))
schedules = st.lists(st.one_of(steps, st.sampled_from(["lost", "told", "read"])), max_size=90)
"""Steps with their tokens and how many nodes they verified beside those that were accepted; what else happens."""
ends = st.sampled_from(["length", "error", "left", "interrupted", "aborted"])


@dataclass
class Scripted:
    """A verifier as if connected, and what it has told of its one session."""

    worker: VerifierWorker
    encode: Callable[[str], list[int]]
    position: int = len(PROMPT)
    steps: list[StepCounts] = field(default_factory=list)

    async def play(self, action: Action) -> None:
        if isinstance(action, tuple):
            pieces, beside = action
            token_ids = tuple(self.encode("".join(pieces)))
            step = StepCounts(len(token_ids), len(token_ids) - 1 + beside)
            self.tell(committed=CommittedTokens(self.position, token_ids, 0, steps=(step,)))
        elif action == "read":
            await turns()
        elif action == "lost":
            self.worker.hand_over("it was killed")
            await turns()
        else:
            accepted = sum(step.tokens - 1 for step in self.steps)
            self.tell(overlap=OverlapStatistics(len(self.steps), accepted, accepted))

    def tell(self, **what: object) -> None:
        for name, guest in list(self.worker._sessions.items()):
            event = SessionEvent(name, guest.epoch, **what)  # type: ignore[arg-type]
            self.worker._deliver(event)
            if event.committed is not None:
                self.position += len(event.committed.token_ids)
                self.steps += event.committed.steps


async def turns() -> None:
    for _ in range(TURNS):
        await asyncio.sleep(0)


@dataclass
class Client:
    """What one has heard."""

    tokens: list[int] = field(default_factory=list)
    token: str = ""
    done: Completion | None = None

    async def read(self, stream: AsyncGenerator[Chunk, None]) -> None:
        try:
            async for chunk in stream:
                self.tokens += chunk.token_ids
                self.token, self.done = chunk.resume_token, chunk.completion
        except PacelineError:
            return
        finally:
            await stream.aclose()


async def follow(gateway: Gateway, scripted: Scripted, client: Client, schedule: list[Action], end: str) -> None:
    """One stream to its end, its verifier playing the schedule."""
    asked = Generate(token_ids=PROMPT, sampling=SamplingParameters(), stop=(STOP,))
    stream = gateway.resume(client.token) if client.token else gateway.generate(asked)
    reading = asyncio.create_task(client.read(stream))
    await turns()
    for action in schedule:
        await scripted.play(action)
    if end == "left":
        reading.cancel()
    elif end == "interrupted":
        gateway.give_up()
    else:
        if end == "aborted" and client.token:
            [running] = gateway._running.values() or [None]
            if running is not None:
                running.abort()
        reason = {"error": FinishReason.ERROR, "aborted": FinishReason.ABORT}.get(end, FinishReason.LENGTH)
        scripted.tell(finish_reason=reason)
    await turns()
    if not reading.done():  # a stop string has ended it: it waits for the verifier's last word
        scripted.tell(finish_reason=FinishReason.ABORT)
    await asyncio.wait([reading])


async def everything(first: list[Action], end: str, then: list[Action]) -> None:
    worker = verifier()
    assert worker.codec is not None
    gateway, scripted, client = Gateway([worker], []), Scripted(worker, worker.codec.encode), Client()
    await follow(gateway, scripted, client, first, end)
    if client.done is None and client.token:
        entry = next(iter(gateway.journal._known.values())).entry()  # type: ignore[attr-defined]
        kept = [step for event in entry.events if event.committed for step in event.committed.counted]
        scripted.steps, scripted.position = list(kept), len(PROMPT) + sum(step.tokens for step in kept)
        emitted_before = gateway.counts.of("m").steps.emitted
        await follow(gateway, scripted, client, then, "length")
        assert gateway.counts.of("m").steps.emitted - emitted_before == sum(
            step.tokens for step in scripted.steps[len(kept) :]
        )
    check(gateway, scripted, client)
    await worker.close()


def check(gateway: Gateway, scripted: Scripted, client: Client) -> None:
    counts = gateway.counts.of("m")
    assert counts.delivered == len(client.tokens)
    assert counts.steps.emitted + counts.recalled == counts.delivered + counts.trimmed + counts.unheard
    assert counts.steps.accepted_nodes + counts.steps.steps == counts.steps.emitted
    assert min(counts.recalled, counts.trimmed, counts.unheard) >= 0
    done = client.done
    if done is None:
        return
    assert done.usage.completion_tokens == len(client.tokens)
    emitted = sum(step.tokens for step in scripted.steps)
    assert done.overlap.steps + done.overlap.accepted_nodes == emitted
    assert done.overlap.steps == len(scripted.steps) == sum(done.overlap.acceptance_histogram)
    assert done.overlap.verified_nodes == sum(step.nodes for step in scripted.steps)
    histogram = enumerate(done.overlap.acceptance_histogram)
    assert sum(accepted * number for accepted, number in histogram) == done.overlap.accepted_nodes
    trimmed = emitted - len(client.tokens)
    assert trimmed == 0 or done.stop_reason == STOP
    assert counts.prompt == done.usage.prompt_tokens == len(PROMPT)


@settings(max_examples=150, deadline=None)
@given(schedules, ends, schedules)
def test_numbers_agree(first: list[Action], end: str, then: list[Action]) -> None:
    asyncio.run(everything(first, end, then))
