"""Spans of an answer: the request, its phases, and each verifier that it has been on.

Parents are given explicitly, since a generator may be closed from another context than it began in. Nothing of what
was asked or answered is in a span, nor an error that might quote it.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterator, Mapping
from contextlib import aclosing, contextmanager
from typing import TypeVar

from opentelemetry.context import Context
from opentelemetry.trace import (
    INVALID_SPAN,
    Link,
    NoOpTracer,
    Span,
    SpanKind,
    StatusCode,
    Tracer,
    set_span_in_context,
)
from opentelemetry.util.types import AttributeValue

from gateway.timelines import Laps
from paceline.messages import Chunk, Completion, Generate, OpenSession
from paceline.messages.sessions import is_sampled
from paceline.speculation.sampling import SamplingParameters
from paceline.telemetry import context_of, genai, hear, heard, link_to, traceparent_of, valid_or_new

ItemT = TypeVar("ItemT")


class Trace:
    """Of one answer. Where nothing is traced it passes on what the client has sent, or a trace that is not sampled."""

    def __init__(self, tracer: Tracer, span: Span, laps: Laps, before: str = "") -> None:
        """``before``: of the answer that it goes on with, to which it is linked."""
        self._tracer, self._span, self._before = tracer, span, before
        self._phase: Span = INVALID_SPAN
        self._phase_name = ""
        self.laps = laps
        """The phases that it has gone through."""
        self.traceparent = valid_or_new(traceparent_of(span))
        """Of the span that is the whole answer."""
        self._context = set_span_in_context(span, Context())
        self._told: Completion | None = None

    # -- its life ------------------------------------------------------------------------------------------------------

    def phase(self, name: str = "", tokens: int = 0) -> None:
        """What happens with the request from now on, until the next phase; empty: none that has a span here.
        ``tokens``: that the phase which ends was about."""
        self._phase.end()
        if self._phase_name:
            self.laps.lap(self._phase_name, tokens)
        self._phase_name = name
        self._phase = self._tracer.start_span(name, self._context) if name else INVALID_SPAN

    def opened(self, opening: OpenSession) -> None:
        """It has become a session, or goes on with one that was begun under another trace."""
        if not self._span.is_recording():
            return
        self._span.set_attributes(_request(opening))
        if opening.traceparent not in (self.traceparent, self._before):
            for link in _link(opening.traceparent):
                self._span.add_link(link.context)

    def decode(self, opening: OpenSession, verifier: str) -> Span:
        """The span of a session on a verifier, parent of all that happens there."""
        about: dict[str, AttributeValue] = {
            "paceline.verifier": verifier,
            "paceline.epoch": opening.epoch,
            "paceline.committed": len(opening.token_ids) - opening.prompt_length,
        }
        return self._tracer.start_span("decode", self._context, SpanKind.CLIENT, about)

    def told(self, chunk: Chunk) -> None:
        """The client is about to hear this."""
        if chunk.completion is not None:
            self._told = chunk.completion

    def close(self, error: BaseException | None) -> None:
        """The answer is over; ``error``: what has ended it before its time."""
        left = error if self._told is None else None
        for span in (self._phase, self._span):
            if left is not None and span.is_recording():
                fail(span, left)
        if self._told is not None and self._span.is_recording():
            self._span.set_attributes(_outcome(self._told))
        self._phase.end()
        self._span.end()


OFF = Trace(NoOpTracer(), INVALID_SPAN, Laps())


@contextmanager
def traced(
    tracer: Tracer, operation: str, laps: Laps, request: Generate | None = None, before: str = ""
) -> Iterator[Trace]:
    """The trace of an answer, as a part of what the client has sent. ``before``: of the answer that it goes on with."""
    about: dict[str, AttributeValue] = {
        genai.PROVIDER_NAME: genai.PROVIDER,
        genai.OPERATION_NAME: genai.CHAT if request is not None and request.chat else genai.TEXT_COMPLETION,
    }
    span = tracer.start_span(operation, context_of(heard()), SpanKind.SERVER, about, _link(before))
    trace = Trace(tracer, span, laps, before)
    try:
        yield trace
    except BaseException as error:
        trace.close(error)
        raise
    else:
        trace.close(None)


async def together(tracer: Tracer, stream: AsyncGenerator[ItemT, None]) -> AsyncGenerator[ItemT, None]:
    """The same stream, whose answers, begun inside, are one request's: they become children of one span."""
    span = tracer.start_span("request", context_of(heard()), SpanKind.SERVER)
    hear(valid_or_new(traceparent_of(span)))
    try:
        async with aclosing(stream):
            async for item in stream:
                yield item
    except BaseException as error:
        fail(span, error)
        raise
    finally:
        span.end()


def fail(span: Span, error: BaseException, detail: str = "") -> None:
    """Something has ended before its time. A client that left is no error of ours. ``detail`` quotes nobody."""
    if not isinstance(error, Exception):
        span.add_event("client left")
        return
    kind = type(error).__name__.strip("_")
    span.add_event("failed", {genai.ERROR_TYPE: kind, "paceline.detail": detail})
    span.set_attribute(genai.ERROR_TYPE, kind)
    span.set_status(StatusCode.ERROR, detail or None)


def _link(traceparent: str) -> list[Link]:
    """To a span that a collector may have."""
    return link_to(traceparent) if is_sampled(traceparent) else []


def _request(opening: OpenSession) -> Mapping[str, AttributeValue]:
    return {
        genai.REQUEST_MODEL: opening.model,
        genai.RESPONSE_MODEL: opening.model,
        genai.RESPONSE_ID: opening.session_id,
        genai.USAGE_INPUT_TOKENS: opening.prompt_length,
        "paceline.mode": opening.speculation.mode.value,
        "paceline.priority": opening.priority,
        **_sampling(opening.sampling),
    }


def _sampling(sampling: SamplingParameters) -> dict[str, AttributeValue]:
    asked = {
        genai.REQUEST_MAX_TOKENS: sampling.max_tokens,
        genai.REQUEST_TEMPERATURE: sampling.temperature,
        genai.REQUEST_TOP_K: sampling.top_k or None,
        genai.REQUEST_TOP_P: sampling.top_p,
    }
    return {name: value for name, value in asked.items() if value is not None}


def _outcome(completion: Completion) -> Mapping[str, AttributeValue]:
    overlap = completion.overlap
    return {
        genai.RESPONSE_FINISH_REASONS: [completion.finish_reason.value],
        genai.USAGE_OUTPUT_TOKENS: completion.usage.completion_tokens,
        "paceline.cached_tokens": completion.usage.cached_tokens,
        "paceline.steps": overlap.steps,
        "paceline.verified": overlap.verified_nodes,
        "paceline.accepted": overlap.accepted_nodes,
        "paceline.ttft_seconds": completion.ttft_seconds,
        "paceline.tpot_seconds": completion.tpot_seconds,
    }
