"""Gateway and drafter: attach and propose."""

from __future__ import annotations

from paceline import messages as m
from paceline.v1 import drafter_pb2 as drafter
from paceline.wire.columns import (
    check_key,
    check_name,
    pack_tokens,
    unpack_tokens,
)
from paceline.wire.parameters import from_sampling, from_speculation, to_sampling, to_speculation


def to_attach(value: m.Attach) -> drafter.AttachRequest:
    return drafter.AttachRequest(
        session_id=value.session_id,
        epoch=value.epoch,
        verifier=value.verifier,
        token_ids_u32=pack_tokens(value.token_ids),
        prompt_length=value.prompt_length,
        sampling=to_sampling(value.sampling),
        speculation=to_speculation(value.speculation),
        noise_key=value.noise_key,
        key=value.key,
        prediction_u32=pack_tokens(value.prediction),
        model=value.model,
        traceparent=value.traceparent,
    )


def from_attach(wire: drafter.AttachRequest) -> m.Attach:
    """What a verifier would not read in a join is refused here: it would end the stream of all sessions."""
    return m.Attach(
        session_id=check_name(wire.session_id, "session_id"),
        epoch=wire.epoch,
        verifier=wire.verifier,
        token_ids=unpack_tokens(wire.token_ids_u32, "token_ids"),
        prompt_length=wire.prompt_length,
        sampling=from_sampling(wire.sampling),
        speculation=from_speculation(wire.speculation),
        noise_key=wire.noise_key,
        key=check_key(wire.key),
        prediction=unpack_tokens(wire.prediction_u32, "prediction"),
        model=wire.model,
        traceparent=wire.traceparent,
    )


def to_attach_event(value: m.AttachEvent) -> drafter.AttachEvent:
    if isinstance(value, m.Attached):
        return drafter.AttachEvent(attached=drafter.Attached(node_limit=value.node_limit))
    return drafter.AttachEvent(detached=drafter.Detached(reason=value.reason))


def from_attach_event(wire: drafter.AttachEvent) -> m.AttachEvent:
    if wire.WhichOneof("event") == "attached":
        return m.Attached(wire.attached.node_limit)
    return m.Detached(wire.detached.reason)


def to_propose(value: m.Propose) -> drafter.ProposeRequest:
    return drafter.ProposeRequest(
        token_ids_u32=pack_tokens(value.token_ids),
        sampling=to_sampling(value.sampling),
        speculation=to_speculation(value.speculation),
        noise_key=value.noise_key,
    )


def from_propose(wire: drafter.ProposeRequest) -> m.Propose:
    return m.Propose(
        token_ids=unpack_tokens(wire.token_ids_u32, "token_ids"),
        sampling=from_sampling(wire.sampling),
        speculation=from_speculation(wire.speculation),
        noise_key=wire.noise_key,
    )
