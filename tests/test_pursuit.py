"""A client asks for the rest of an answer where it is worth it, and is told nothing twice."""

from __future__ import annotations

from typing import Any

import grpc
import pytest

from paceline import wire
from paceline.messages import Chunk, Completion, FinishReason, Generate, OverlapStatistics, Usage
from paceline.pursuit import Pursuit
from paceline.speculation.policy import Mode

REQUEST = Generate(text="x")
DONE = Completion(FinishReason.STOP, Usage(1, 1), OverlapStatistics(), Mode.OFF, "", 0.0, 0.0)


class Stub:
    """Remembers what was asked for."""

    def __init__(self) -> None:
        self.asked: list[Any] = []

    def Generate(self, request: Any, metadata: Any) -> None:
        self.asked.append(wire.from_generate(request))

    def Resume(self, request: Any, metadata: Any) -> None:
        self.asked.append(request.resume_token)


class Failure(grpc.RpcError):
    def __init__(self, code: grpc.StatusCode = grpc.StatusCode.UNAVAILABLE) -> None:
        self._code = code

    def code(self) -> grpc.StatusCode:
        return self._code


def pursuit(gateways: int = 1, patience_seconds: float = 30.0, now: float = 0.0) -> Pursuit:
    return Pursuit(REQUEST, "", gateways, patience_seconds, clock=lambda: now)


def test_what_broke_off_is_resumed_after_the_last_chunk() -> None:
    ours, stub = pursuit(), Stub()
    ours.call(stub, ())
    assert ours.hear(Chunk("s", seed=1, resume_token="first"))
    assert ours.hear(Chunk("s", token_ids=(1,), resume_token="second"))
    assert ours.goes_on(Failure())
    ours.call(stub, ())
    assert stub.asked == [REQUEST, "second"]
    assert not ours.hear(Chunk("s", seed=1, position=1, resume_token="second")), "it was greeted before"
    assert ours.hear(Chunk("s", completion=DONE))
    assert ours.done


def test_what_had_not_begun_is_asked_for_once_whoever_answers() -> None:
    ours, stub = pursuit(gateways=2), Stub()
    ours.call(stub, ())
    assert ours.goes_on(Failure())
    ours.call(stub, ())
    first, second = stub.asked
    assert first == second
    assert first.idempotency_key


def test_a_single_gateway_that_is_not_there_is_said_to_be_so_at_once() -> None:
    assert not pursuit().goes_on(Failure())


def test_what_cannot_be_resumed_is_not() -> None:
    ours = pursuit(gateways=2)
    ours.hear(Chunk("s", token_ids=(1,)))
    assert not ours.goes_on(Failure())


@pytest.mark.parametrize("code", [code for code in grpc.StatusCode if code is not grpc.StatusCode.UNAVAILABLE])
def test_a_verdict_is_final(code: grpc.StatusCode) -> None:
    ours = pursuit(gateways=2)
    ours.hear(Chunk("s", token_ids=(1,), resume_token="token"))
    assert not ours.goes_on(Failure(code))


def test_patience_ends_unless_there_is_news() -> None:
    now = 0.0
    ours = Pursuit(REQUEST, "token", patience_seconds=5.0, clock=lambda: now)
    ours.hear(Chunk("s", token_ids=(1,), resume_token="token"))
    assert ours.goes_on(Failure())
    now = 4.0
    assert ours.goes_on(Failure())
    ours.hear(Chunk("s", token_ids=(1,), resume_token="token"))
    now = 8.0
    assert ours.goes_on(Failure())
    now = 14.0
    assert not ours.goes_on(Failure())


def test_every_gateway_is_asked_at_once_and_then_ever_more_seldom() -> None:
    ours = pursuit(gateways=3)
    pauses = []
    for _ in range(12):
        ours.goes_on(Failure())
        pauses.append(ours.pause_seconds)
    assert pauses[:2] == [0.0, 0.0]
    assert 0 < pauses[2] <= 0.05
    assert 0.5 <= pauses[-1] <= 1.0
