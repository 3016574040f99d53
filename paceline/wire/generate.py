"""Client and gateway: requests and chunks."""

from __future__ import annotations

from paceline import messages as m
from paceline.errors import FieldError
from paceline.v1 import gateway_pb2 as gateway
from paceline.wire.columns import (
    FINISH,
    FROM_FINISH,
    FROM_MODE,
    MODES,
)
from paceline.wire.parameters import from_sampling, from_speculation, to_sampling, to_speculation
from paceline.wire.statistics import from_overlap, from_usage, to_overlap, to_usage
from paceline.wire.tokens import from_events, from_logprobs, from_sources, to_event, to_logprobs, to_sources


def to_generate(value: m.Generate) -> gateway.GenerateRequest:
    wire = gateway.GenerateRequest(
        model=value.model,
        sampling=to_sampling(value.sampling),
        speculation=to_speculation(value.speculation),
        seed=value.seed,
        choice_index=value.choice_index,
        priority=value.priority,
        stop=value.stop,
        idempotency_key=value.idempotency_key,
    )
    if value.text is not None:
        wire.text = value.text
    elif value.chat is not None:
        wire.chat.messages.extend(gateway.ChatMessage(**vars(message)) for message in value.chat)
    elif value.token_ids is not None:
        wire.tokens.token_ids.extend(value.token_ids)
    return wire


def from_generate(wire: gateway.GenerateRequest) -> m.Generate:
    kind = wire.WhichOneof("prompt")
    if kind is None:
        raise FieldError("prompt", None, "text, chat or tokens")
    chat = tuple(m.ChatMessage(message.role, message.content) for message in wire.chat.messages)
    return m.Generate(
        model=wire.model,
        text=wire.text if kind == "text" else None,
        chat=chat if kind == "chat" else None,
        token_ids=tuple(wire.tokens.token_ids) if kind == "tokens" else None,
        sampling=from_sampling(wire.sampling),
        speculation=from_speculation(wire.speculation),
        seed=wire.seed if wire.HasField("seed") else None,
        choice_index=wire.choice_index,
        priority=wire.priority,
        stop=tuple(wire.stop),
        idempotency_key=wire.idempotency_key,
    )


def to_chunk(value: m.Chunk) -> gateway.GenerateResponse:
    wire = gateway.GenerateResponse(
        session_id=value.session_id,
        text=value.text,
        token_ids=value.token_ids,
        position=value.position,
        seed=value.seed,
        piece_lengths=value.piece_lengths,
        logprobs=to_logprobs(value.logprobs),
        sources=to_sources(value.drafters),
        events=map(to_event, value.events),
        resume_token=value.resume_token,
    )
    if value.completion is not None:
        done = value.completion
        wire.completion.CopyFrom(
            gateway.Completion(
                finish_reason=FINISH[done.finish_reason],
                usage=to_usage(done.usage),
                overlap=to_overlap(done.overlap),
                mode=MODES[done.mode],
                exactness=done.exactness,
                ttft_seconds=done.ttft_seconds,
                tpot_seconds=done.tpot_seconds,
                stop_reason=done.stop_reason,
                warning=done.warning,
                trace_id=done.trace_id,
            )
        )
    return wire


def from_chunk(wire: gateway.GenerateResponse) -> m.Chunk:
    completion = None
    if wire.HasField("completion"):
        done = wire.completion
        completion = m.Completion(
            finish_reason=FROM_FINISH[done.finish_reason],
            usage=from_usage(done.usage),
            overlap=from_overlap(done.overlap),
            mode=FROM_MODE[done.mode],
            exactness=done.exactness,
            ttft_seconds=done.ttft_seconds,
            tpot_seconds=done.tpot_seconds,
            stop_reason=done.stop_reason,
            warning=done.warning,
            trace_id=done.trace_id,
        )
    return m.Chunk(
        session_id=wire.session_id,
        text=wire.text,
        token_ids=tuple(wire.token_ids),
        position=wire.position,
        seed=wire.seed if wire.HasField("seed") else None,
        completion=completion,
        piece_lengths=tuple(wire.piece_lengths),
        logprobs=from_logprobs(wire.logprobs),
        drafters=from_sources(wire.sources),
        events=from_events(wire.events),
        resume_token=wire.resume_token,
    )


def to_worker(value: m.Worker) -> gateway.Worker:
    return gateway.Worker(**vars(value))


def from_worker(wire: gateway.Worker) -> m.Worker:
    return m.Worker(
        wire.worker_id, wire.role, wire.kind, wire.address, wire.healthy, wire.model, wire.price_per_hour,
        wire.sessions, wire.max_sessions,
    )  # fmt: skip
