"""Drafter and verifier: draft updates and verdicts."""

from __future__ import annotations

import math

from paceline import messages as m
from paceline.errors import FieldError
from paceline.speculation.accept import NodeCandidates
from paceline.speculation.fields import require
from paceline.speculation.merge import MAX_ENTRIES, NodeColumns
from paceline.v1 import common_pb2 as common
from paceline.v1 import verifier_pb2 as verifier
from paceline.wire.columns import (
    FROM_MODE,
    MODES,
    check_key,
    check_name,
    column,
    pack_tokens,
    unpack_tokens,
)
from paceline.wire.decode import from_rejection, to_rejection

LATEST_SECONDS = 2.0**40


def to_draft_update(value: m.DraftUpdate) -> verifier.DraftUpdate:
    return verifier.DraftUpdate(
        joins=[verifier.Join(**vars(join)) for join in value.joins],
        nodes=[_to_nodes(nodes) for nodes in value.nodes],
        rounds=[verifier.RoundComplete(**vars(item)) for item in value.rounds],
        leaves=[verifier.Leave(session_id=leave.session_id) for leave in value.leaves],
    )


def _to_nodes(value: m.DraftNodes) -> verifier.DraftNodes:
    columns = value.columns
    return verifier.DraftNodes(
        session_id=value.session_id,
        epoch=value.epoch,
        first_node_id=columns.first_node_id,
        root_position=columns.root_position,
        token_ids_u32=columns.token_ids.astype("<u4").tobytes(),
        parent_ids_u64=columns.parent_ids.astype("<u8").tobytes(),
        log_scores_f32=columns.log_scores.astype("<f4").tobytes(),
        idle_seconds=value.idle_seconds,
        busy_seconds=value.busy_seconds,
        growth=None if value.growth is None else verifier.Growth(**vars(value.growth)),
    )


def from_draft_update(wire: verifier.DraftUpdate) -> tuple[m.DraftUpdate, list[m.Rejection]]:
    """The readable entries, and a rejection for each one whose columns cannot be read.

    Raises ``FieldError`` for a message that has too many of them, and for names and keys that are none.
    """
    for kind in ("joins", "nodes", "rounds", "leaves"):
        count = len(getattr(wire, kind))
        require(count <= MAX_ENTRIES, kind, count, f"at most {MAX_ENTRIES} a message")
    parts: tuple[verifier.Join | verifier.DraftNodes | verifier.RoundComplete | verifier.Leave, ...]
    parts = (*wire.joins, *wire.nodes, *wire.rounds, *wire.leaves)
    for part in parts:
        check_name(part.session_id, "session_id")
    for join in wire.joins:
        check_name(join.drafter_id, "drafter_id")
        check_key(join.key)
    nodes: list[m.DraftNodes] = []
    rejected: list[m.Rejection] = []
    for entry in wire.nodes:
        try:
            nodes.append(_from_nodes(entry))
        except FieldError as error:
            rejected.append(m.Rejection(entry.session_id, m.Status.INVALID_ARGUMENT, str(error)))
    update = m.DraftUpdate(
        joins=tuple(
            m.Join(
                j.session_id,
                j.epoch,
                j.drafter_id,
                j.incarnation,
                j.key,
                j.have_length,
                j.prefix_hash,
                j.wants_candidates,
            )
            for j in wire.joins
        ),
        nodes=tuple(nodes),
        rounds=tuple(m.RoundComplete(r.session_id, r.epoch, r.root_position) for r in wire.rounds),
        leaves=tuple(m.Leave(leave.session_id) for leave in wire.leaves),
    )
    return update, rejected


def _from_nodes(wire: verifier.DraftNodes) -> m.DraftNodes:
    columns = NodeColumns(
        first_node_id=wire.first_node_id,
        root_position=wire.root_position,
        token_ids=column(wire.token_ids_u32, "<u4", "token_ids"),
        parent_ids=column(wire.parent_ids_u64, "<u8", "parent_ids"),
        log_scores=column(wire.log_scores_f32, "<f4", "log_scores"),
    )
    for field in ("idle_seconds", "busy_seconds"):
        require(0.0 <= getattr(wire, field) < math.inf, field, getattr(wire, field), "0 or more")
    growth = _from_growth(wire.growth) if wire.HasField("growth") else None
    return m.DraftNodes(wire.session_id, wire.epoch, columns, wire.idle_seconds, wire.busy_seconds, growth)


def _from_growth(wire: verifier.Growth) -> m.Growth:
    ordered = 0.0 <= wire.started <= wire.sent < LATEST_SECONDS
    require(ordered, "growth", f"{wire.started} to {wire.sent}", "times in order, in seconds since 1970")
    return m.Growth(wire.started, wire.sent, wire.span_id)


def to_verdicts(value: m.Verdicts) -> verifier.Verdicts:
    return verifier.Verdicts(
        joined=[
            verifier.Joined(
                session_id=j.session_id,
                epoch=j.epoch,
                position=j.position,
                token_ids_u32=pack_tokens(j.token_ids),
                node_limit=j.node_limit,
            )
            for j in value.joined
        ],
        verdicts=[_to_verdict(verdict) for verdict in value.verdicts],
        rejected=[to_rejection(rejection) for rejection in value.rejected],
    )


def _to_verdict(value: m.Verdict) -> verifier.Verdict:
    return verifier.Verdict(
        session_id=value.session_id,
        epoch=value.epoch,
        position=value.position,
        token_ids_u32=pack_tokens(value.token_ids),
        prefix_hash=value.prefix_hash,
        ended=value.ended,
        node_limit=value.node_limit,
        mode=common.MODE_UNSPECIFIED if value.mode is None else MODES[value.mode],
        candidate_token_ids_u32=pack_tokens([token for tokens in value.candidates for token in tokens]),
        candidates_per_node=len(value.candidates[0]) if value.candidates else 0,
        beside_token_ids_u32=pack_tokens([node.token_id for node in value.beside]),
        beside_candidate_token_ids_u32=pack_tokens([token for node in value.beside for token in node.best]),
    )


def _from_candidates(data: bytes, each: int, field: str) -> list[tuple[int, ...]]:
    tokens = unpack_tokens(data, field)
    whole = each > 0 and len(tokens) % each == 0
    require(whole or not tokens, field, f"{len(tokens)} tokens", f"a multiple of candidates_per_node {each}")
    return [tokens[start : start + each] for start in range(0, len(tokens), max(each, 1))]


def _from_beside(wire: verifier.Verdict) -> tuple[NodeCandidates, ...]:
    nodes, field = unpack_tokens(wire.beside_token_ids_u32, "beside_token_ids"), "beside_candidate_token_ids"
    best = _from_candidates(wire.beside_candidate_token_ids_u32, wire.candidates_per_node, field)
    require(len(best) == len(nodes), field, f"of {len(best)} nodes", f"{len(nodes)} nodes, as beside_token_ids has")
    return tuple(map(NodeCandidates, nodes, best))


def _from_verdict(wire: verifier.Verdict) -> m.Verdict:
    candidates = _from_candidates(wire.candidate_token_ids_u32, wire.candidates_per_node, "candidate_token_ids")
    return m.Verdict(
        session_id=wire.session_id,
        epoch=wire.epoch,
        position=wire.position,
        token_ids=unpack_tokens(wire.token_ids_u32, "token_ids"),
        prefix_hash=wire.prefix_hash,
        ended=wire.ended,
        node_limit=wire.node_limit,
        mode=FROM_MODE.get(wire.mode),
        candidates=tuple(candidates),
        beside=_from_beside(wire),
    )


def from_verdicts(wire: verifier.Verdicts) -> m.Verdicts:
    return m.Verdicts(
        joined=tuple(
            m.Joined(j.session_id, j.epoch, j.position, unpack_tokens(j.token_ids_u32, "token_ids"), j.node_limit)
            for j in wire.joined
        ),
        verdicts=tuple(_from_verdict(verdict) for verdict in wire.verdicts),
        rejected=tuple(from_rejection(rejection) for rejection in wire.rejected),
    )
