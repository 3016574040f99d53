"""To and from the wire: the only module that touches generated code.

Each ``to_x`` makes a protobuf message of a plain value and each ``from_x`` the reverse, checking what comes from
outside: a bad value raises ``FieldError`` with field, value and expectation.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar

import numpy as np

from paceline import messages as m
from paceline.errors import FieldError, UnsupportedParameter
from paceline.speculation.merge import NodeColumns
from paceline.speculation.policy import Mode, Shape, SpeculationParameters
from paceline.speculation.sampling import SamplingParameters
from paceline.v1 import common_pb2 as common
from paceline.v1 import drafter_pb2 as drafter
from paceline.v1 import drafter_pb2_grpc as drafter_grpc
from paceline.v1 import gateway_pb2 as gateway
from paceline.v1 import gateway_pb2_grpc as gateway_grpc
from paceline.v1 import verifier_pb2 as verifier
from paceline.v1 import verifier_pb2_grpc as verifier_grpc

__all__ = ["common", "drafter", "drafter_grpc", "gateway", "gateway_grpc", "verifier", "verifier_grpc"]

_MODES = {Mode.OVERLAPPED: common.MODE_OVERLAPPED, Mode.LOCKSTEP: common.MODE_LOCKSTEP, Mode.OFF: common.MODE_OFF}
_SHAPES = {Shape.TREE: common.SHAPE_TREE, Shape.CHAIN: common.SHAPE_CHAIN}
_FINISH = {
    m.FinishReason.STOP: common.FINISH_REASON_STOP,
    m.FinishReason.LENGTH: common.FINISH_REASON_LENGTH,
    m.FinishReason.ABORT: common.FINISH_REASON_ABORT,
    m.FinishReason.ERROR: common.FINISH_REASON_ERROR,
}
_FROM_MODE = {wire: mode for mode, wire in _MODES.items()}
_FROM_SHAPE = {wire: shape for shape, wire in _SHAPES.items()}
_FROM_FINISH = {wire: reason for reason, wire in _FINISH.items()}
_EnumT = TypeVar("_EnumT")


# -- columns and enums -------------------------------------------------------------------------------------------------


def pack_tokens(token_ids: Sequence[int]) -> bytes:
    """Token ids as little-endian uint32."""
    return np.asarray(token_ids, "<u4").tobytes()


def unpack_tokens(data: bytes, field: str) -> tuple[int, ...]:
    return tuple(_column(data, "<u4", field).tolist())


def _column(data: bytes, dtype: str, field: str) -> np.ndarray[tuple[int], np.dtype[Any]]:
    width = np.dtype(dtype).itemsize
    if len(data) % width:
        raise FieldError(field, f"{len(data)} bytes", f"a multiple of {width} bytes")
    return np.frombuffer(data, dtype)


def _enum(table: dict[Any, _EnumT], value: int, default: _EnumT, field: str) -> _EnumT:
    if value == 0:
        return default
    try:
        return table[value]
    except KeyError:
        raise FieldError(field, value, f"one of {', '.join(str(number) for number in table)}") from None


# -- parameters --------------------------------------------------------------------------------------------------------

_NOT_YET = {"presence_penalty": 0.0, "frequency_penalty": 0.0, "repetition_penalty": 1.0, "min_tokens": 0}


def to_sampling(value: SamplingParameters) -> common.SamplingParameters:
    return common.SamplingParameters(
        max_tokens=value.max_tokens,
        temperature=value.temperature,
        top_p=value.top_p,
        top_k=value.top_k,
        min_p=value.min_p,
        stop_token_ids=value.stop_token_ids,
        ignore_eos=value.ignore_eos,
    )


def from_sampling(wire: common.SamplingParameters) -> SamplingParameters:
    for field, neutral in _NOT_YET.items():
        if wire.HasField(field) and getattr(wire, field) != neutral:
            raise UnsupportedParameter(field, getattr(wire, field), f"{neutral} (not supported yet)")
    for field in ("logprobs", "grammar"):
        if wire.HasField(field):
            raise UnsupportedParameter(field, "set", "absent (not supported yet)")
    if wire.logit_bias:
        raise UnsupportedParameter("logit_bias", dict(wire.logit_bias), "empty (not supported yet)")
    given = {
        field: getattr(wire, field)
        for field in ("max_tokens", "temperature", "top_p", "top_k", "min_p", "ignore_eos")
        if wire.HasField(field)
    }
    return SamplingParameters(stop_token_ids=tuple(wire.stop_token_ids), **given)


def to_speculation(value: SpeculationParameters) -> common.SpeculationParameters:
    return common.SpeculationParameters(
        mode=_MODES[value.mode],
        shape=_SHAPES[value.shape],
        max_draft_nodes=value.max_draft_nodes,
        draft_depth=value.draft_depth,
        draft_width=value.draft_width,
        drafters=value.drafters or (),
        no_drafters=value.drafters == (),
        cache_scope=value.cache_scope,
    )


def from_speculation(wire: common.SpeculationParameters) -> SpeculationParameters:
    if wire.prediction:
        raise UnsupportedParameter("prediction", "set", "empty (not supported yet)")
    given = {
        field: getattr(wire, field)
        for field in ("max_draft_nodes", "draft_depth", "draft_width")
        if wire.HasField(field)
    }
    named = tuple(wire.drafters) or None
    return SpeculationParameters(
        mode=_enum(_FROM_MODE, wire.mode, Mode.OVERLAPPED, "mode"),
        shape=_enum(_FROM_SHAPE, wire.shape, Shape.TREE, "shape"),
        drafters=() if wire.no_drafters else named,
        cache_scope=wire.cache_scope,
        **given,
    )


# -- statistics --------------------------------------------------------------------------------------------------------


def to_usage(value: m.Usage) -> common.Usage:
    return common.Usage(**vars(value))


def from_usage(wire: common.Usage) -> m.Usage:
    return m.Usage(wire.prompt_tokens, wire.completion_tokens, wire.cached_tokens)


def to_overlap(value: m.OverlapStatistics) -> common.OverlapStatistics:
    fields = dict(vars(value))
    drafters = [common.DrafterStatistics(**vars(item)) for item in fields.pop("drafters")]
    return common.OverlapStatistics(drafters=drafters, **fields)


def from_overlap(wire: common.OverlapStatistics) -> m.OverlapStatistics:
    drafters = tuple(
        m.DrafterStatistics(d.drafter_id, d.proposed, d.verified, d.accepted, d.uniquely_accepted, d.stale)
        for d in wire.drafters
    )
    return m.OverlapStatistics(
        steps=wire.steps,
        verified_nodes=wire.verified_nodes,
        accepted_nodes=wire.accepted_nodes,
        pre_verify_steps=wire.pre_verify_steps,
        post_verify_nodes=wire.post_verify_nodes,
        verifier_wait_seconds=wire.verifier_wait_seconds,
        step_seconds=wire.step_seconds,
        drafters=drafters,
    )


# -- gateway and verifier ----------------------------------------------------------------------------------------------


def to_decode_command(value: m.DecodeCommand) -> verifier.DecodeCommand:
    match value:
        case m.OpenSession():
            opening = verifier.OpenSession(
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
            return verifier.DecodeCommand(open=opening)
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
                change.mode = _MODES[value.mode]
            return verifier.DecodeCommand(change=change)


def from_decode_command(wire: verifier.DecodeCommand) -> m.DecodeCommand:
    kind = wire.WhichOneof("command")
    if kind == "open":
        return _from_open(wire.open)
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
            mode=_enum(_FROM_MODE, change.mode, Mode.OVERLAPPED, "mode") if change.HasField("mode") else None,
            max_draft_nodes=change.max_draft_nodes if change.HasField("max_draft_nodes") else None,
            priority=change.priority if change.HasField("priority") else None,
        )
    raise FieldError("command", kind, "open, abort, authorize, revoke or change")


def _from_open(wire: verifier.OpenSession) -> m.OpenSession:
    return m.OpenSession(
        session_id=wire.session_id,
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
    return verifier.SessionRejected(session_id=value.session_id, code=value.status.value, detail=value.detail)


def from_rejection(wire: verifier.SessionRejected) -> m.Rejection:
    return m.Rejection(wire.session_id, m.Status(wire.code), wire.detail)


def to_decode_events(events: Sequence[m.SessionEvent]) -> verifier.DecodeEvents:
    return verifier.DecodeEvents(events=[_to_event(event) for event in events])


def _to_event(value: m.SessionEvent) -> verifier.SessionEvent:
    wire = verifier.SessionEvent(session_id=value.session_id, epoch=value.epoch, detail=value.detail)
    if value.committed is not None:
        wire.committed.position = value.committed.position
        wire.committed.token_ids_u32 = pack_tokens(value.committed.token_ids)
        wire.committed.prefix_hash = value.committed.prefix_hash
    elif value.rejected is not None:
        wire.rejected.CopyFrom(to_rejection(value.rejected))
    elif value.opened:
        wire.opened.SetInParent()
    if value.finish_reason is not None:
        wire.finish_reason = _FINISH[value.finish_reason]
    if value.usage is not None:
        wire.usage.CopyFrom(to_usage(value.usage))
    if value.overlap is not None:
        wire.overlap.CopyFrom(to_overlap(value.overlap))
    return wire


def from_decode_events(wire: verifier.DecodeEvents) -> list[m.SessionEvent]:
    return [_from_event(event) for event in wire.events]


def _from_event(wire: verifier.SessionEvent) -> m.SessionEvent:
    kind = wire.WhichOneof("event")
    committed = None
    if kind == "committed":
        tokens = unpack_tokens(wire.committed.token_ids_u32, "token_ids")
        committed = m.CommittedTokens(wire.committed.position, tokens, wire.committed.prefix_hash)
    return m.SessionEvent(
        session_id=wire.session_id,
        epoch=wire.epoch,
        opened=kind == "opened",
        committed=committed,
        rejected=from_rejection(wire.rejected) if kind == "rejected" else None,
        finish_reason=_FROM_FINISH.get(wire.finish_reason),
        usage=from_usage(wire.usage) if wire.HasField("usage") else None,
        overlap=from_overlap(wire.overlap) if wire.HasField("overlap") else None,
        detail=wire.detail,
    )


# -- drafter and verifier ----------------------------------------------------------------------------------------------


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
    )


def from_draft_update(wire: verifier.DraftUpdate) -> tuple[m.DraftUpdate, list[m.Rejection]]:
    """The readable entries, and a rejection for each one whose columns cannot be read."""
    nodes: list[m.DraftNodes] = []
    rejected: list[m.Rejection] = []
    for entry in wire.nodes:
        try:
            nodes.append(_from_nodes(entry))
        except FieldError as error:
            rejected.append(m.Rejection(entry.session_id, m.Status.INVALID_ARGUMENT, str(error)))
    update = m.DraftUpdate(
        joins=tuple(
            m.Join(j.session_id, j.epoch, j.drafter_id, j.incarnation, j.key, j.have_length, j.prefix_hash)
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
        token_ids=_column(wire.token_ids_u32, "<u4", "token_ids"),
        parent_ids=_column(wire.parent_ids_u64, "<u8", "parent_ids"),
        log_scores=_column(wire.log_scores_f32, "<f4", "log_scores"),
    )
    return m.DraftNodes(wire.session_id, wire.epoch, columns)


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
        mode=common.MODE_UNSPECIFIED if value.mode is None else _MODES[value.mode],
    )


def from_verdicts(wire: verifier.Verdicts) -> m.Verdicts:
    return m.Verdicts(
        joined=tuple(
            m.Joined(j.session_id, j.epoch, j.position, unpack_tokens(j.token_ids_u32, "token_ids"), j.node_limit)
            for j in wire.joined
        ),
        verdicts=tuple(
            m.Verdict(
                session_id=v.session_id,
                epoch=v.epoch,
                position=v.position,
                token_ids=unpack_tokens(v.token_ids_u32, "token_ids"),
                prefix_hash=v.prefix_hash,
                ended=v.ended,
                node_limit=v.node_limit,
                mode=_FROM_MODE.get(v.mode),
            )
            for v in wire.verdicts
        ),
        rejected=tuple(from_rejection(rejection) for rejection in wire.rejected),
    )


# -- descriptions ------------------------------------------------------------------------------------------------------


def to_model_info(value: m.ModelInfo) -> common.ModelInfo:
    return common.ModelInfo(**vars(value))


def from_model_info(wire: common.ModelInfo) -> m.ModelInfo:
    return m.ModelInfo(
        wire.name, wire.vocabulary_size, wire.max_context, wire.tokenizer_hash, tuple(wire.stop_token_ids)
    )


def to_verifier_description(value: m.VerifierDescription) -> verifier.DescribeVerifierResponse:
    return verifier.DescribeVerifierResponse(
        verifier_id=value.verifier_id,
        model=to_model_info(value.model),
        fingerprint=common.Fingerprint(**vars(value.fingerprint)),
        limits=verifier.VerifierLimits(max_sessions=value.max_sessions),
        load=verifier.VerifierLoad(
            running_sessions=value.running_sessions,
            waiting_sessions=value.waiting_sessions,
            free_blocks=value.free_blocks,
            total_blocks=value.total_blocks,
        ),
        protocol_version=value.protocol_version,
    )


def from_verifier_description(wire: verifier.DescribeVerifierResponse) -> m.VerifierDescription:
    print_ = wire.fingerprint
    return m.VerifierDescription(
        verifier_id=wire.verifier_id,
        model=from_model_info(wire.model),
        fingerprint=m.Fingerprint(
            print_.weights, print_.dtype, print_.engine, print_.device_kind, print_.tensor_parallel_size, print_.numerics
        ),
        max_sessions=wire.limits.max_sessions,
        running_sessions=wire.load.running_sessions,
        waiting_sessions=wire.load.waiting_sessions,
        free_blocks=wire.load.free_blocks,
        total_blocks=wire.load.total_blocks,
        protocol_version=wire.protocol_version,
    )


def to_drafter_description(value: m.DrafterDescription) -> drafter.DescribeDrafterResponse:
    return drafter.DescribeDrafterResponse(**vars(value))


def from_drafter_description(wire: drafter.DescribeDrafterResponse) -> m.DrafterDescription:
    return m.DrafterDescription(
        drafter_id=wire.drafter_id,
        kind=wire.kind,
        model=wire.model,
        vocabulary_size=wire.vocabulary_size,
        tokenizer_hash=wire.tokenizer_hash,
        price_per_hour=wire.price_per_hour,
        max_sessions=wire.max_sessions,
        attached_sessions=wire.attached_sessions,
        max_context=wire.max_context,
        incarnation=wire.incarnation,
        protocol_version=wire.protocol_version,
    )


def to_tokenizer_files(value: m.TokenizerFiles) -> verifier.GetTokenizerResponse:
    return verifier.GetTokenizerResponse(**vars(value))


def from_tokenizer_files(wire: verifier.GetTokenizerResponse) -> m.TokenizerFiles:
    return m.TokenizerFiles(wire.tokenizer_hash, wire.tokenizer_json, wire.chat_template, dict(wire.special_tokens))


# -- gateway and drafter -----------------------------------------------------------------------------------------------


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
    )


def from_attach(wire: drafter.AttachRequest) -> m.Attach:
    return m.Attach(
        session_id=wire.session_id,
        epoch=wire.epoch,
        verifier=wire.verifier,
        token_ids=unpack_tokens(wire.token_ids_u32, "token_ids"),
        prompt_length=wire.prompt_length,
        sampling=from_sampling(wire.sampling),
        speculation=from_speculation(wire.speculation),
        noise_key=wire.noise_key,
        key=wire.key,
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


# -- client and gateway ------------------------------------------------------------------------------------------------


def to_generate(value: m.Generate) -> gateway.GenerateRequest:
    wire = gateway.GenerateRequest(
        model=value.model,
        sampling=to_sampling(value.sampling),
        speculation=to_speculation(value.speculation),
        seed=value.seed,
        choice_index=value.choice_index,
        priority=value.priority,
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
    for field in ("stop", "idempotency_key"):
        if getattr(wire, field):
            raise UnsupportedParameter(field, "set", "empty (not supported yet)")
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
    )


def to_chunk(value: m.Chunk) -> gateway.GenerateResponse:
    wire = gateway.GenerateResponse(
        session_id=value.session_id,
        text=value.text,
        token_ids=value.token_ids,
        position=value.position,
        seed=value.seed,
    )
    if value.completion is not None:
        done = value.completion
        wire.completion.CopyFrom(
            gateway.Completion(
                finish_reason=_FINISH[done.finish_reason],
                usage=to_usage(done.usage),
                overlap=to_overlap(done.overlap),
                mode=_MODES[done.mode],
                exactness=done.exactness,
                ttft_seconds=done.ttft_seconds,
                tpot_seconds=done.tpot_seconds,
            )
        )
    return wire


def from_chunk(wire: gateway.GenerateResponse) -> m.Chunk:
    completion = None
    if wire.HasField("completion"):
        done = wire.completion
        completion = m.Completion(
            finish_reason=_FROM_FINISH[done.finish_reason],
            usage=from_usage(done.usage),
            overlap=from_overlap(done.overlap),
            mode=_FROM_MODE[done.mode],
            exactness=done.exactness,
            ttft_seconds=done.ttft_seconds,
            tpot_seconds=done.tpot_seconds,
        )
    seed = wire.seed if wire.HasField("seed") else None
    return m.Chunk(wire.session_id, wire.text, tuple(wire.token_ids), wire.position, seed, completion)


def to_worker(value: m.Worker) -> gateway.Worker:
    return gateway.Worker(**vars(value))


def from_worker(wire: gateway.Worker) -> m.Worker:
    return m.Worker(
        wire.worker_id, wire.role, wire.kind, wire.address, wire.healthy, wire.model, wire.price_per_hour,
        wire.sessions, wire.max_sessions,
    )  # fmt: skip
