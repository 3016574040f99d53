"""From a job to a response: whole, or as a stream of server-sent events."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing

from fastapi import Request, Response
from fastapi.sse import EventSourceResponse
from starlette.types import Receive, Scope, Send

from gateway.callers import Caller
from gateway.http.answer import Answer, Job
from gateway.http.callers import caller_of
from gateway.http.choices import Batch, merged, unless_gone
from gateway.http.encoding import DONE, json_response
from gateway.http.errors import failure_of
from gateway.http.face import Face
from gateway.http.resuming import LAST_EVENT_ID, Mark
from gateway.service import Gateway
from gateway.tracing import together
from paceline.logs import get_logger
from paceline.messages import Chunk, Generate
from paceline.rpc import HANDLED

logger = get_logger(__name__)

_HEADERS = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}


class EventStream(EventSourceResponse):
    """Server-sent events whose source is closed at once when the client is gone."""

    def __init__(self, events: AsyncGenerator[bytes, None]) -> None:
        super().__init__(events, headers=_HEADERS)
        self._events = events

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async with aclosing(self._events):
            await super().__call__(scope, receive, send)


async def respond(face: Face, job: Job, request: Request) -> Response:
    """Runs the job. Nothing is sent before its first token, so that whatever fails until then has its own status."""
    answer = Answer(job, identified=_reads_events(request))
    caller = caller_of(request)
    pairs = zip(job.generations, job.heard, strict=True)
    chunks = merged([_chunks(face.gateway, generation, mark, caller) for generation, mark in pairs])
    if len(job.generations) > 1:
        chunks = together(face.gateway.telemetry.tracer, chunks)
    try:
        if not job.stream:
            await unless_gone(request, _collect(answer, chunks))
            return json_response(await answer.whole())
        opening = await unless_gone(request, _opening(chunks))
    except BaseException:
        await chunks.aclose()
        raise
    return EventStream(_events(answer, opening, chunks))


def _reads_events(request: Request) -> bool:
    """Whether the client says that it reads server-sent events, not only lines with data: to many that are made for
    OpenAI's streams any other line is an error."""
    return "text/event-stream" in request.headers.get("accept", "") or LAST_EVENT_ID in request.headers


def _chunks(gateway: Gateway, generation: Generate, mark: Mark, caller: Caller) -> AsyncGenerator[Chunk, None]:
    """Of one choice; if its client has heard some of it, that is in the first."""
    if mark.token:
        return gateway.access.told(lambda: gateway.resume(mark.token, caller, recall=True), caller, resumed=True)
    return gateway.access.told(lambda: gateway.generate(generation, caller), caller)


async def _collect(answer: Answer, chunks: AsyncGenerator[Batch, None]) -> None:
    async for batch in chunks:
        answer.add(batch)


async def _opening(chunks: AsyncGenerator[Batch, None]) -> Batch:
    """Everything up to the first token."""
    opening: Batch = []
    async for batch in chunks:
        opening += batch
        if any(chunk.token_ids or chunk.completion for _, chunk in batch):
            break
    return opening


async def _events(answer: Answer, opening: Batch, chunks: AsyncGenerator[Batch, None]) -> AsyncGenerator[bytes, None]:
    try:
        async with aclosing(chunks):
            if data := answer.stream(opening):
                yield data
            async for batch in chunks:
                if data := answer.stream(batch):
                    yield data
        yield await answer.last() + DONE
    except HANDLED as error:
        yield answer.broken(failure_of(error))
    except Exception as error:
        logger.exception("a stream has failed")
        yield answer.broken(failure_of(error))
