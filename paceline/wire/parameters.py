"""Sampling and speculation parameters; what is not supported is refused by name."""

from __future__ import annotations

from paceline.errors import FieldError
from paceline.speculation.grammar import Grammar, GrammarKind
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

_OPTIONAL = (
    "max_tokens", "temperature", "top_p", "top_k", "min_p", "ignore_eos", "presence_penalty", "frequency_penalty",
    "repetition_penalty", "min_tokens", "logprobs",
)  # fmt: skip


def to_sampling(value: SamplingParameters) -> common.SamplingParameters:
    return common.SamplingParameters(
        **{field: getattr(value, field) for field in _OPTIONAL},
        stop_token_ids=value.stop_token_ids,
        logit_bias=dict(value.logit_bias),
        grammar=None if value.grammar is None else _to_grammar(value.grammar),
    )


def from_sampling(wire: common.SamplingParameters) -> SamplingParameters:
    given = {field: getattr(wire, field) for field in _OPTIONAL if wire.HasField(field)}
    return SamplingParameters(
        stop_token_ids=tuple(wire.stop_token_ids),
        logit_bias=tuple(sorted(wire.logit_bias.items())),
        grammar=_from_grammar(wire.grammar) if wire.HasField("grammar") else None,
        **given,
    )


def _to_grammar(value: Grammar) -> common.Grammar:
    wire = common.Grammar(backend=value.backend)
    setattr(wire, value.kind.value, value.text)
    return wire


def _from_grammar(wire: common.Grammar) -> Grammar:
    kind = wire.WhichOneof("kind")
    if kind is None:
        raise FieldError("grammar", None, f"one of {', '.join(kind.value for kind in GrammarKind)}")
    return Grammar(GrammarKind(kind), getattr(wire, kind), wire.backend)


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
        events=value.events,
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
        events=wire.events,
        **given,
    )
