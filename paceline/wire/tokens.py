"""What may be told of emitted tokens: log-probabilities, who had proposed them, and what happened when."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from paceline import messages as m
from paceline.speculation.fields import require
from paceline.speculation.logprobs import TokenLogprobs
from paceline.v1 import common_pb2 as common
from paceline.wire.columns import column, pack_tokens, unpack_tokens

MAX_SOURCES = 64
"""Drafters that a set of sources can name."""


def to_logprobs(values: Iterable[TokenLogprobs]) -> list[common.TokenLogprobs]:
    return [
        common.TokenLogprobs(
            logprob=value.logprob,
            top_token_ids_u32=pack_tokens([token_id for token_id, _ in value.top]),
            top_logprobs_f32=np.asarray([logprob for _, logprob in value.top], "<f4").tobytes(),
        )
        for value in values
    ]


def from_logprobs(wires: Iterable[common.TokenLogprobs]) -> tuple[TokenLogprobs, ...]:
    return tuple(
        TokenLogprobs(
            wire.logprob,
            tuple(
                zip(
                    unpack_tokens(wire.top_token_ids_u32, "top_token_ids"),
                    column(wire.top_logprobs_f32, "<f4", "top_logprobs").tolist(),
                    strict=True,
                )
            ),
        )
        for wire in wires
    )


def to_sources(drafters: Sequence[Sequence[str]]) -> common.TokenSources | None:
    """None: nothing is told of any token. Past ``MAX_SOURCES`` drafters some go unnamed."""
    if not drafters:
        return None
    names = list(dict.fromkeys(name for names in drafters for name in names))[:MAX_SOURCES]
    bits = {name: 1 << index for index, name in enumerate(names)}
    sets = [sum(bits.get(name, 0) for name in names_) for names_ in drafters]
    return common.TokenSources(drafters=names, sets_u64=np.asarray(sets, "<u8").tobytes())


def from_sources(wire: common.TokenSources) -> tuple[tuple[str, ...], ...]:
    require(len(wire.drafters) <= MAX_SOURCES, "drafters", len(wire.drafters), f"at most {MAX_SOURCES} names")
    sets = column(wire.sets_u64, "<u8", "sets").tolist()
    return tuple(tuple(name for index, name in enumerate(wire.drafters) if bits >> index & 1) for bits in sets)


def to_event(value: m.DraftingEvent) -> common.DraftingEvent:
    match value:
        case m.NodesArrived():
            return common.DraftingEvent(
                arrived=common.NodesArrived(
                    at=value.at,
                    drafter_id=value.drafter_id,
                    node_ids_u32=pack_tokens(value.node_ids),
                    parent_ids_u32=pack_tokens(value.parent_ids),
                    token_ids_u32=pack_tokens(value.token_ids),
                    positions_u32=pack_tokens(value.positions),
                    log_scores_f32=np.asarray(value.log_scores, "<f4").tobytes(),
                    idle_seconds=value.idle_seconds,
                    busy_seconds=value.busy_seconds,
                    grown_from=value.grown_from,
                    sent_at=value.sent_at,
                )
            )
        case m.StepDecided():
            return common.DraftingEvent(
                decided=common.StepDecided(
                    rooted_at=value.rooted_at,
                    launched_at=value.launched_at,
                    decided_at=value.decided_at,
                    verified_ids_u32=pack_tokens(value.verified_ids),
                    accepted_ids_u32=pack_tokens(value.accepted_ids),
                    token_ids_u32=pack_tokens(value.token_ids),
                    position=value.position,
                )
            )
        case m.SessionPlaced():
            return common.DraftingEvent(placed=common.SessionPlaced(**vars(value)))
        case m.PhaseEnded():
            return common.DraftingEvent(phase=common.PhaseEnded(**vars(value)))


def from_events(wires: Iterable[common.DraftingEvent]) -> tuple[m.DraftingEvent, ...]:
    """Kinds that are not known here are left out."""
    return tuple(_from_event(wire) for wire in wires if wire.WhichOneof("event"))


def _from_event(wire: common.DraftingEvent) -> m.DraftingEvent:
    kind = wire.WhichOneof("event")
    if kind == "placed":
        return m.SessionPlaced(wire.placed.verifier_id, wire.placed.epoch, wire.placed.opened_unix_seconds)
    if kind == "phase":
        phase = wire.phase
        return m.PhaseEnded(phase.name, phase.role, phase.started, phase.ended, phase.tokens)
    if kind == "arrived":
        arrived = wire.arrived
        return m.NodesArrived(
            at=arrived.at,
            drafter_id=arrived.drafter_id,
            **_columns(arrived, "node_ids", "parent_ids", "token_ids", "positions"),
            log_scores=tuple(column(arrived.log_scores_f32, "<f4", "log_scores").tolist()),
            idle_seconds=arrived.idle_seconds,
            busy_seconds=arrived.busy_seconds,
            grown_from=arrived.grown_from,
            sent_at=arrived.sent_at,
        )
    decided = wire.decided
    return m.StepDecided(
        rooted_at=decided.rooted_at,
        launched_at=decided.launched_at,
        decided_at=decided.decided_at,
        **_columns(decided, "verified_ids", "accepted_ids", "token_ids"),
        position=decided.position,
    )


def _columns(wire: Any, *names: str) -> dict[str, Any]:
    return {name: unpack_tokens(getattr(wire, f"{name}_u32"), name) for name in names}
