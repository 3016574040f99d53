"""One log line for each answer, however it ends; and for each request that comes to none.

What a line is about (request, session, epoch, trace) is bound in the context of the call, so that every other line
that the call leads to says it, too. Prompts and texts are in it only if the environment asks for that.
"""

from __future__ import annotations

import asyncio
import dataclasses
import time
import uuid
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

from gateway.callers import Caller
from gateway.text import TextCodec
from paceline.errors import FailedPrecondition, FieldError, ResourceExhausted, TargetFailed, Unavailable
from paceline.logs import Bounded, bind, fresh, get_logger, texts_wanted
from paceline.messages import Chunk, Completion, FinishReason, Generate, OpenSession
from paceline.rpc import HANDLED, status_of
from paceline.speculation.policy import SpeculationParameters
from paceline.speculation.sampling import SamplingParameters
from paceline.telemetry import heard, link_to, trace_id_of

logger = get_logger(__name__)

FINISHED, ABORTED, REFUSED_, FAILED = "request finished", "request aborted", "request refused", "request failed"
GONE, INTERNAL = "client_gone", "internal"
"""Reasons that are no status."""
_QUOTABLE = (ResourceExhausted, Unavailable)
"""Errors that speak of the fleet's state, and never of what was asked."""
_FIELDS = frozenset(
    item.name for kind in (Generate, SamplingParameters, SpeculationParameters) for item in dataclasses.fields(kind)
)
"""Names that are told of a field that was wrong; any other one may be the client's own."""


@dataclass
class Call:
    """A client's call."""

    request: str = field(default_factory=lambda: uuid.uuid4().hex)
    """Its name, which clients of HTTP are told."""
    via: str = "grpc"
    answered: bool = False
    """An answer to it has begun, whose line says how it ends."""


@dataclass
class _Answer:
    """What the line of one answer needs beside its chunks."""

    prompt: str | list[int] | None = None


_call: ContextVar[Call | None] = ContextVar("call", default=None)
_answer: ContextVar[_Answer | None] = ContextVar("answer", default=None)


def called(call: Call) -> None:
    """Notes what the lines of this context are about from now on."""
    _call.set(call)
    trace = {"trace_id": trace_id_of(heard())} if link_to(heard()) else {}
    fresh(request=call.request, **trace)


def request_id() -> str:
    """Of the call that is being handled."""
    call = _call.get()
    return call.request if call is not None else uuid.uuid4().hex


def opened(opening: OpenSession, codec: TextCodec) -> None:
    """The call has got a session."""
    bind(session=opening.session_id, epoch=opening.epoch, trace_id=trace_id_of(opening.traceparent))
    answer = _answer.get()
    if answer is not None and texts_wanted():
        prompt = opening.token_ids[: opening.prompt_length]
        try:
            answer.prompt = codec.decode(prompt)
        except FailedPrecondition:  # it has no tokenizer
            answer.prompt = list(prompt)


class Access:
    """Writes the lines of one gateway; those that repeat too often are left out, and how many is told with the next."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._bounded = Bounded(clock)

    async def told(
        self, begin: Callable[[], AsyncGenerator[Chunk, None]], caller: Caller, *, resumed: bool = False
    ) -> AsyncGenerator[Chunk, None]:
        """The chunks of an answer, and a line at its end; whatever ``begin`` itself raises is how it ended, too."""
        if (call := _call.get()) is None:
            called(call := Call())
        call.answered = True
        _answer.set(answer := _Answer())
        wanted, text, why = texts_wanted(), list[str](), dict[str, Any]()
        started, completion, tokens = time.monotonic(), None, 0
        try:
            async with aclosing(begin()) as chunks:
                async for chunk in chunks:
                    completion, tokens = chunk.completion, tokens + len(chunk.token_ids)
                    if wanted:
                        text.append(chunk.text)
                    yield chunk
        except BaseException as error:
            why = {} if completion else _why(error)  # all was told: whoever is gone has it
            raise
        finally:
            about = {"caller": caller.name or None, "resumed": resumed or None, "via": call.via, "tokens": tokens}
            seconds = time.monotonic() - started
            texts = {"prompt": answer.prompt, "text": "".join(text)} if wanted else {}
            self._tell({**about, **_figures(completion), "seconds": seconds, **why, **texts})

    def refused(self, call: Call, reason: str, **about: Any) -> None:
        """The line of a call that came to no answer."""
        self._warn(REFUSED_, {"via": call.via, "reason": reason, **about})

    def _tell(self, fields: dict[str, Any]) -> None:
        fields = {name: value for name, value in fields.items() if value is not None}
        if "event" in fields:
            self._warn(fields.pop("event"), fields)
        elif fields.get("finish_reason") is FinishReason.ABORT:
            self._warn(ABORTED, {**fields, "reason": "abort"})
        else:
            logger.info(FINISHED, **fields)

    def _warn(self, event: str, fields: dict[str, Any]) -> None:
        left_out = self._bounded.admit((event, fields["reason"], fields.get("caller")))
        if left_out is not None:
            logger.warning(event, **fields, **({"left_out": left_out} if left_out else {}))


def _figures(completion: Completion | None) -> dict[str, Any]:
    """Of an answer that has come to its end."""
    if completion is None:
        return {}
    usage, overlap = completion.usage, completion.overlap
    return {
        "mode": completion.mode,
        "prompt_tokens": usage.prompt_tokens,
        "cached_tokens": usage.cached_tokens,
        "tokens": usage.completion_tokens,
        "finish_reason": completion.finish_reason,
        "ttft_seconds": completion.ttft_seconds,
        "tpot_seconds": completion.tpot_seconds,
        "steps": overlap.steps,
        "accepted_length": overlap.mean_accepted_length,
        "warning": completion.warning or None,
    }


def _why(error: BaseException) -> dict[str, Any]:
    """How an answer ended that did not come to its end. What errors say is told where it cannot be the client's."""
    if isinstance(error, (GeneratorExit, asyncio.CancelledError)):
        return {"event": ABORTED, "reason": GONE}
    if not isinstance(error, HANDLED):
        return {"event": FAILED, "reason": INTERNAL}
    known = isinstance(error, FieldError) and error.field in _FIELDS
    return {
        "event": FAILED if isinstance(error, (Unavailable, TargetFailed)) else REFUSED_,
        "reason": status_of(error).name.lower(),
        "field": error.field if isinstance(error, FieldError) and known else None,
        "detail": str(error) if isinstance(error, _QUOTABLE) else None,
    }
