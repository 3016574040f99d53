"""Whose text the gateway publishes: each session's once, when it is over, unless it failed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence

import pytest

from gateway.service import Gateway
from gateway.text import TextCodec
from gateway.workers import VerifierWorker, lost_event
from paceline.checkpoint import read_tokenizer
from paceline.embedded import TARGET
from paceline.errors import PacelineError
from paceline.messages import (
    CommittedTokens,
    Fingerprint,
    FinishReason,
    Generate,
    ModelInfo,
    OpenSession,
    Pulse,
    Rejection,
    SessionEvent,
    Status,
    VerifierDescription,
)
from paceline.rpc import Outgoing
from paceline.speculation.policy import SpeculationParameters
from paceline.speculation.sampling import SamplingParameters

PROMPT = (5, 6, 7)


def said(session: str, position: int, *token_ids: int, reason: FinishReason | None = None) -> SessionEvent:
    committed = CommittedTokens(position, token_ids, 0)
    return SessionEvent(session, 1, committed=committed if token_ids else None, finish_reason=reason)


def verifier() -> VerifierWorker:
    """As if connected: what it hears is put in its sessions' queues."""
    worker = VerifierWorker("127.0.0.1:1")
    worker.codec = TextCodec(read_tokenizer(TARGET))
    model = ModelInfo("m", 4096, 512, worker.codec.hash, ())
    fingerprint = Fingerprint("", "float32", "", "cpu", 1, "standard")
    worker.description = VerifierDescription("v", model, fingerprint, 8, 0, 0, 8, 8)
    worker._commands, worker._pulse = Outgoing(asyncio.get_running_loop()), Pulse()
    return worker


@pytest.mark.parametrize("ends", ["stop", "abort", "left", "error", "lost", "rejected"])
async def test_what_was_said_is_published_unless_the_session_failed(ends: str) -> None:
    published: list[tuple[str, OpenSession, list[int]]] = []

    def publish(tokenizer_hash: str, opening: OpenSession, token_ids: Sequence[int]) -> None:
        published.append((tokenizer_hash, opening, list(token_ids)))

    worker = verifier()
    gateway = Gateway([worker], [], publish=publish, failover_seconds=0.05)
    speculation = SpeculationParameters(cache_scope="a")
    stream = gateway.generate(Generate(token_ids=PROMPT, sampling=SamplingParameters(), speculation=speculation))
    first = asyncio.ensure_future(anext(stream))
    while not worker._sessions:  # noqa: ASYNC110 - it is there after the first turn
        await asyncio.sleep(0)
    ((name, guest),) = worker._sessions.items()
    events = guest.events
    events.put_nowait(SessionEvent(name, 1, opened=True))
    assert (await first).session_id == name
    events.put_nowait(said(name, 3, 8, 9))
    assert (await anext(stream)).token_ids == (8, 9)
    last = {
        "stop": said(name, 5, 10, reason=FinishReason.STOP),
        "error": said(name, 5, 10, reason=FinishReason.ERROR),
        "lost": lost_event(name),
        "rejected": SessionEvent(name, 1, rejected=Rejection(name, Status.INTERNAL, "why")),
    }
    if ends == "lost":
        worker._pulse = None
    if ends in last:
        events.put_nowait(last[ends])
    elif ends == "abort":
        gateway.abort(name)
        events.put_nowait(said(name, 5, reason=FinishReason.ABORT))
    assert published == []
    if ends == "left":
        assert isinstance(stream, AsyncGenerator)
        await stream.aclose()
    elif ends in ("error", "lost", "rejected"):
        with pytest.raises(PacelineError):
            await anext(stream)
    else:
        assert [chunk.completion is not None async for chunk in stream] == [True]
    expected = {"stop": [8, 9, 10], "abort": [8, 9], "left": [8, 9]}
    assert [token_ids for *_, token_ids in published] == ([expected[ends]] if ends in expected else [])
    for tokenizer_hash, opening, _ in published:
        assert worker.codec is not None
        assert (tokenizer_hash, opening.session_id, opening.token_ids) == (worker.codec.hash, name, PROMPT)
        assert opening.speculation.cache_scope == "/a", "a scope is its caller's"
    await worker.close()
