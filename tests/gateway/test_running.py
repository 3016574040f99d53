"""A text that a stop string has ended is whole, whatever becomes of what was computed beyond it."""

from __future__ import annotations

import asyncio

import pytest

from gateway.service import Gateway
from gateway.workers import lost_event
from paceline.messages import Chunk, FinishReason, Generate, SessionEvent
from paceline.speculation.sampling import SamplingParameters
from tests.gateway.test_publishing import PROMPT, said, verifier


@pytest.mark.parametrize("beyond", ["error", "lost", "abort"])
async def test_what_fails_beyond_a_stop_string_takes_nothing_away(beyond: str) -> None:
    worker = verifier()
    assert worker.codec is not None
    before, end, after = (worker.codec.encode(text) for text in ("x = 1", "STOP", "y"))
    asked = Generate(token_ids=PROMPT, sampling=SamplingParameters(), stop=("STOP",))
    gateway = Gateway([worker], [])
    stream = gateway.generate(asked)

    async def read() -> list[Chunk]:
        return [chunk async for chunk in stream]

    reading = asyncio.create_task(read())
    while not worker._sessions:  # noqa: ASYNC110 - it is there after some turns
        await asyncio.sleep(0)
    ((name, guest),) = worker._sessions.items()
    events = guest.events
    events.put_nowait(SessionEvent(name, 1, opened=True))
    events.put_nowait(said(name, 3, *before, *end, *after))
    await asyncio.sleep(0.01)
    events.put_nowait(
        {
            "error": said(name, 9, reason=FinishReason.ERROR),
            "lost": lost_event(name),
            "abort": said(name, 9, reason=FinishReason.ABORT),
        }[beyond]
    )
    chunks = await asyncio.wait_for(reading, 10)
    done = chunks[-1].completion
    assert "".join(chunk.text for chunk in chunks) == "x = 1"
    assert done is not None
    assert (done.finish_reason, done.stop_reason) == (FinishReason.STOP, "STOP")
    assert done.usage.completion_tokens == len(before) + len(end)
    again = [chunk async for chunk in gateway.resume(chunks[0].resume_token)]
    assert "".join(chunk.text for chunk in again) == "x = 1"
    assert again[-1].completion is not None
    assert again[-1].completion.stop_reason == "STOP"
    await worker.close()
