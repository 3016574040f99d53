"""Answers and rows as they might have come."""

from __future__ import annotations

from paceline.experiments.live.asking import Answer
from paceline.experiments.results import Instrument, Latency, Row, System
from paceline.experiments.sweeps import Value
from paceline.messages import Completion, FinishReason, OverlapStatistics, Usage
from paceline.speculation.policy import Mode


def answer(due: float, first: float, last: float, tokens: int, steps: int) -> Answer:
    overlap = OverlapStatistics(
        steps=steps, accepted_nodes=tokens - steps, verifier_wait_seconds=0.002 * steps, step_seconds=0.02 * steps
    )
    completion = Completion(FinishReason.LENGTH, Usage(8, tokens), overlap, Mode.OVERLAPPED, "", first - due, 0.0)
    return Answer(due, first, last, tokens, completion)


def row(
    system: System = System.TREES,
    speed: float = 100.0,
    instrument: Instrument = Instrument.EMULATED,
    settings: dict[str, Value] | None = None,
    notes: dict[str, Value] | None = None,
) -> Row:
    times = Latency(1.0, 2.0, 3.0)
    dollars = {"low": 1.0, "mid": 2.0, "high": 3.0}
    return Row("test", system, instrument, settings or {}, speed, speed, times, times, 1.0, 4, dollars, notes or {})
