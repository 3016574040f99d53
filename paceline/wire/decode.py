"""Gateway and verifier: commands and events."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from paceline import messages as m
from paceline.errors import FieldError
from paceline.speculation.fields import require
from paceline.speculation.policy import Mode
from paceline.v1 import verifier_pb2 as verifier
from paceline.wire.columns import (
    FINISH,
    FROM_FINISH,
    FROM_MODE,
    MODES,
    check_name,
    enum,
    pack_tokens,
    unpack_tokens,
)
from paceline.wire.parameters import from_sampling, from_speculation, to_sampling, to_speculation
from paceline.wire.statistics import from_overlap, from_usage, to_overlap, to_usage
from paceline.wire.tokens import from_events, from_logprobs, from_sources, to_event, to_logprobs, to_sources


def to_decode_command(value: m.DecodeCommand) -> verifier.DecodeCommand:
    match value:
        case m.OpenSession():
            return verifier.DecodeCommand(open=to_open(value), traceparent=value.traceparent)
        case m.AbortSession():
            return verifier.DecodeCommand(abort=verifier.AbortSession(**vars(value)))
        case m.AuthorizeDrafter():
            return verifier.DecodeCommand(authorize=verifier.AuthorizeDrafter(**vars(value)))
        case m.RevokeDrafter():
            return verifier.DecodeCommand(revoke=verifier.RevokeDrafter(**vars(value)))
        case m.ChangeSession():
            change = verifier.ChangeSession(
                session_id=value.session_id, max_draft_nodes=value.max_draft_nodes, priority=value.priority
            )
            if value.mode is not None:
                change.mode = MODES[value.mode]
            return verifier.DecodeCommand(change=change)


def to_open(value: m.OpenSession) -> verifier.OpenSession:
    return verifier.OpenSession(
        session_id=value.session_id,
        epoch=value.epoch,
        token_ids_u32=pack_tokens(value.token_ids),
        prompt_length=value.prompt_length,
        sampling=to_sampling(value.sampling),
        speculation=to_speculation(value.speculation),
        noise_key=value.noise_key,
        session_secret=value.session_secret,
        priority=value.priority,
        model=value.model,
    )


def from_decode_command(wire: verifier.DecodeCommand) -> m.DecodeCommand:
    kind = wire.WhichOneof("command")
    if kind == "open":
        return replace(from_open(wire.open), traceparent=wire.traceparent)
    if kind == "abort":
        return m.AbortSession(wire.abort.session_id, wire.abort.epoch)
    if kind == "authorize":
        return m.AuthorizeDrafter(wire.authorize.session_id, wire.authorize.drafter_id)
    if kind == "revoke":
        return m.RevokeDrafter(wire.revoke.session_id, wire.revoke.drafter_id, wire.revoke.reason)
    if kind == "change":
        change = wire.change
        return m.ChangeSession(
            change.session_id,
            mode=enum(FROM_MODE, change.mode, Mode.OVERLAPPED, "mode") if change.HasField("mode") else None,
            max_draft_nodes=change.max_draft_nodes if change.HasField("max_draft_nodes") else None,
            priority=change.priority if change.HasField("priority") else None,
        )
    raise FieldError("command", kind, "open, abort, authorize, revoke or change")


def from_open(wire: verifier.OpenSession) -> m.OpenSession:
    return m.OpenSession(
        session_id=check_name(wire.session_id, "session_id"),
        epoch=wire.epoch,
        token_ids=unpack_tokens(wire.token_ids_u32, "token_ids"),
        prompt_length=wire.prompt_length,
        sampling=from_sampling(wire.sampling),
        speculation=from_speculation(wire.speculation),
        noise_key=wire.noise_key,
        session_secret=wire.session_secret,
        priority=wire.priority,
        model=wire.model,
    )


def to_rejection(value: m.Rejection) -> verifier.SessionRejected:
    return verifier.SessionRejected(
        session_id=value.session_id, code=value.status.value, detail=value.detail, epoch=value.epoch
    )


def from_rejection(wire: verifier.SessionRejected) -> m.Rejection:
    known = wire.code in {status.value for status in m.Status}
    return m.Rejection(wire.session_id, m.Status(wire.code) if known else m.Status.INTERNAL, wire.detail, wire.epoch)


ALIVE = m.Pulse()


def to_decode_events(events: Sequence[m.SessionEvent], pulse: m.Pulse = ALIVE) -> verifier.DecodeEvents:
    return verifier.DecodeEvents(
        events=[to_session_event(event) for event in events], draining=pulse.draining, stalled=pulse.stalled
    )


def to_session_event(value: m.SessionEvent) -> verifier.SessionEvent:
    wire = verifier.SessionEvent(session_id=value.session_id, epoch=value.epoch, detail=value.detail)
    if value.committed is not None:
        wire.committed.position = value.committed.position
        wire.committed.token_ids_u32 = pack_tokens(value.committed.token_ids)
        wire.committed.prefix_hash = value.committed.prefix_hash
        wire.committed.logprobs.extend(to_logprobs(value.committed.logprobs))
        if sources := to_sources(value.committed.drafters):
            wire.committed.sources.CopyFrom(sources)
        wire.committed.step_tokens.extend(step.tokens for step in value.committed.steps)
        wire.committed.step_nodes.extend(step.nodes for step in value.committed.steps)
    elif value.rejected is not None:
        wire.rejected.CopyFrom(to_rejection(value.rejected))
    elif value.opened:
        wire.opened.SetInParent()
    if value.finish_reason is not None:
        wire.finish_reason = FINISH[value.finish_reason]
    if value.usage is not None:
        wire.usage.CopyFrom(to_usage(value.usage))
    if value.overlap is not None:
        wire.overlap.CopyFrom(to_overlap(value.overlap))
    wire.events.extend(map(to_event, value.events))
    return wire


def from_decode_events(wire: verifier.DecodeEvents) -> list[m.SessionEvent]:
    return [from_session_event(event) for event in wire.events]


def from_pulse(wire: verifier.DecodeEvents) -> m.Pulse:
    return m.Pulse(wire.draining, wire.stalled)


def from_session_event(wire: verifier.SessionEvent) -> m.SessionEvent:
    kind = wire.WhichOneof("event")
    return m.SessionEvent(
        session_id=wire.session_id,
        epoch=wire.epoch,
        opened=kind == "opened",
        committed=_from_committed(wire.committed) if kind == "committed" else None,
        rejected=from_rejection(wire.rejected) if kind == "rejected" else None,
        finish_reason=FROM_FINISH.get(wire.finish_reason),
        usage=from_usage(wire.usage) if wire.HasField("usage") else None,
        overlap=from_overlap(wire.overlap) if wire.HasField("overlap") else None,
        detail=wire.detail,
        events=from_events(wire.events),
    )


def _from_committed(wire: verifier.CommittedTokens) -> m.CommittedTokens:
    token_ids = unpack_tokens(wire.token_ids_u32, "token_ids")
    return m.CommittedTokens(
        position=wire.position,
        token_ids=token_ids,
        prefix_hash=wire.prefix_hash,
        logprobs=from_logprobs(wire.logprobs),
        drafters=from_sources(wire.sources),
        steps=_from_steps(wire, len(token_ids)),
    )


def _from_steps(wire: verifier.CommittedTokens, tokens: int) -> tuple[m.StepCounts, ...]:
    emitted, nodes = tuple(wire.step_tokens), tuple(wire.step_nodes)
    require(len(nodes) == len(emitted), "step_nodes", len(nodes), f"{len(emitted)} entries, as step_tokens has")
    adds_up = not emitted or (sum(emitted) == tokens and 0 not in emitted)
    require(adds_up, "step_tokens", sum(emitted), f"{tokens} tokens together, at least one each")
    return tuple(map(m.StepCounts, emitted, nodes))
