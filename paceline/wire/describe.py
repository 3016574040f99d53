"""How workers describe themselves."""

from __future__ import annotations

from paceline import messages as m
from paceline.v1 import common_pb2 as common
from paceline.v1 import drafter_pb2 as drafter
from paceline.v1 import verifier_pb2 as verifier


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
        incarnation=value.incarnation,
    )


def from_verifier_description(wire: verifier.DescribeVerifierResponse) -> m.VerifierDescription:
    print_ = wire.fingerprint
    return m.VerifierDescription(
        verifier_id=wire.verifier_id,
        model=from_model_info(wire.model),
        fingerprint=m.Fingerprint(
            print_.weights,
            print_.dtype,
            print_.engine,
            print_.device_kind,
            print_.tensor_parallel_size,
            print_.numerics,
            print_.grammar,
        ),
        max_sessions=wire.limits.max_sessions,
        running_sessions=wire.load.running_sessions,
        waiting_sessions=wire.load.waiting_sessions,
        free_blocks=wire.load.free_blocks,
        total_blocks=wire.load.total_blocks,
        protocol_version=wire.protocol_version,
        incarnation=wire.incarnation,
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
        verifiers=tuple(wire.verifiers),
    )


def to_tokenizer_files(value: m.TokenizerFiles) -> verifier.GetTokenizerResponse:
    return verifier.GetTokenizerResponse(**vars(value))


def from_tokenizer_files(wire: verifier.GetTokenizerResponse) -> m.TokenizerFiles:
    return m.TokenizerFiles(wire.tokenizer_hash, wire.tokenizer_json, wire.chat_template, dict(wire.special_tokens))
