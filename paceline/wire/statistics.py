"""Counters that travel with a session's events."""

from __future__ import annotations

from paceline import messages as m
from paceline.v1 import common_pb2 as common


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
        m.DrafterStatistics(
            d.drafter_id,
            d.proposed,
            d.verified,
            d.accepted,
            d.uniquely_accepted,
            d.stale,
            d.drafting,
            d.steps,
            d.busy_seconds,
            d.rejected,
        )
        for d in wire.drafters
    )
    return m.OverlapStatistics(
        steps=wire.steps,
        verified_nodes=wire.verified_nodes,
        accepted_nodes=wire.accepted_nodes,
        pre_verify_steps=wire.pre_verify_steps,
        post_verify_nodes=wire.post_verify_nodes,
        verifier_wait_seconds=wire.verifier_wait_seconds,
        drafter_idle_seconds=wire.drafter_idle_seconds,
        step_seconds=wire.step_seconds,
        drafters=drafters,
        acceptance_histogram=tuple(wire.acceptance_histogram),
    )
