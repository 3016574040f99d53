"""Sampling and speculation parameters; what is not supported is refused by name."""

from __future__ import annotations

from paceline.errors import UnsupportedParameter
from paceline.speculation.policy import Mode, Shape, SpeculationParameters
from paceline.speculation.sampling import SamplingParameters
from paceline.v1 import common_pb2 as common
from paceline.wire.columns import (
    FROM_MODE,
    FROM_SHAPE,
    MODES,
    SHAPES,
    enum,
)

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
        mode=MODES[value.mode],
        shape=SHAPES[value.shape],
        max_draft_nodes=value.max_draft_nodes,
        draft_depth=value.draft_depth,
        draft_width=value.draft_width,
        drafters=value.drafters or (),
        no_drafters=value.drafters == (),
        cache_scope=value.cache_scope,
        prediction=value.prediction,
    )


def from_speculation(wire: common.SpeculationParameters) -> SpeculationParameters:
    given = {
        field: getattr(wire, field)
        for field in ("max_draft_nodes", "draft_depth", "draft_width")
        if wire.HasField(field)
    }
    named = tuple(wire.drafters) or None
    return SpeculationParameters(
        mode=enum(FROM_MODE, wire.mode, Mode.OVERLAPPED, "mode"),
        shape=enum(FROM_SHAPE, wire.shape, Shape.TREE, "shape"),
        drafters=() if wire.no_drafters else named,
        cache_scope=wire.cache_scope,
        prediction=wire.prediction,
        **given,
    )
