"""A collector that is away costs a service neither its end nor its log."""

from __future__ import annotations

import logging
import socket
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass

import pytest
from opentelemetry.sdk.trace.sampling import Decision
from opentelemetry.trace import Link

from paceline.telemetry import OFF, context_of, link_to, telemetry_of
from paceline.telemetry.export import (
    MOST_WAITING,
    QUIET_SECONDS,
    SHUTDOWN_SECONDS,
    TALKATIVE,
    Following,
    Sparing,
    be_sparing,
)
from tests.telemetry.spans import SAMPLED, UNSAMPLED

LATE_SECONDS = 5.0
"""For what takes no time; by itself OpenTelemetry would try for 30 s."""


@dataclass(frozen=True)
class Settings:
    otlp: str | None
    name: str = "test"
    telemetry: str = "on"


@pytest.fixture(params=["refuses", "says nothing"])
def away(request: pytest.FixtureRequest) -> Iterator[str]:
    """Of no collector: nobody listens there, or somebody who never answers."""
    with closing(socket.socket()) as listening:
        listening.bind(("127.0.0.1", 0))
        if request.param == "says nothing":
            listening.listen()
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"


def test_a_service_ends_though_its_collector_is_away(away: str, caplog: pytest.LogCaptureFixture) -> None:
    telemetry = telemetry_of(Settings(away), "gateway", 1.0)
    telemetry.meter.create_counter("some").add(1)
    started = time.monotonic()
    for _ in range(MOST_WAITING + 1000):
        telemetry.tracer.start_span("some").end()
    telemetry.shutdown()
    assert time.monotonic() - started < SHUTDOWN_SECONDS + LATE_SECONDS
    assert len(caplog.records) < 10
    assert all(record.name in TALKATIVE for record in caplog.records)


def test_without_a_collector_contexts_are_passed_on() -> None:
    for telemetry in (OFF, telemetry_of(Settings(None), "gateway", 1.0)):
        span = telemetry.tracer.start_span("some", context_of(SAMPLED))
        assert not span.is_recording()
        assert span.get_span_context() == link_to(SAMPLED)[0].context
        telemetry.shutdown()


def test_the_same_trouble_is_told_once_a_minute() -> None:
    now, lines = 0.0, Sparing(lambda: now)
    records = [logging.makeLogRecord({"msg": text, "args": (0,)}) for text in ("away %d", "full %d")]
    assert [lines.filter(record) for record in records * 2] == [True, True, False, False]
    now = QUIET_SECONDS
    assert lines.filter(records[0])


def test_who_speaks_of_collectors_is_sparing_with_lines() -> None:
    for _ in range(2):
        be_sparing()
    for name in TALKATIVE:
        assert sum(isinstance(known, Sparing) for known in logging.getLogger(name).filters) == 1


@pytest.mark.parametrize(
    ("ratio", "before", "decision"),
    [
        (0.0, "", Decision.DROP),
        (1.0, "", Decision.RECORD_AND_SAMPLE),
        (0.0, SAMPLED, Decision.RECORD_AND_SAMPLE),
        (0.0, UNSAMPLED, Decision.DROP),
    ],
)
def test_what_goes_on_with_a_traced_answer_is_traced(ratio: float, before: str, decision: Decision) -> None:
    links: list[Link] = link_to(before)
    assert Following(ratio).should_sample(None, 1, "resume", links=links).decision is decision
