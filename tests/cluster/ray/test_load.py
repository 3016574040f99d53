"""From what gateways say to advice, and from advice to what is done."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from dataclasses import replace
from http.client import HTTPConnection

import pytest

from paceline.cluster.child import Reservation
from paceline.cluster.local import LocalCluster
from paceline.cluster.ray.advisor import Advisor
from paceline.cluster.ray.load import Reading, advise, fetch, read
from paceline.cluster.topology import DrafterPool, GatewayPool, ModelRoute, Topology, VerifierPool
from paceline.embedded import TARGET
from paceline.errors import FieldError

TOPOLOGY = Topology(
    models=(ModelRoute("m", "org/target", "big", ("small", "lookup")),),
    verifiers={"big": VerifierPool(2, price_per_hour=6.8)},
    drafters={
        "small": DrafterPool("model", "org/draft", replicas=2, price_per_hour=0.75),
        "lookup": DrafterPool("ngram"),
    },
    redis="redis://cache/0",
)
CAPACITY = dict.fromkeys(("verifier/big-0", "verifier/big-1", "drafter/small-0", "drafter/small-1"), 100.0)
PLACES, ASKED = 2, 5
PATIENCE_SECONDS = 40.0


@pytest.fixture(scope="module")
def local() -> Iterator[LocalCluster]:
    """A fleet whose two verifiers take one session at a time each."""
    topology = Topology(
        models=(ModelRoute("m", str(TARGET), "big"),),
        verifiers={"big": VerifierPool(PLACES, emulate_step_time="20ms")},
        gateway=GatewayPool(http=0),
    )
    with pytest.MonkeyPatch.context() as patch, asyncio.Runner() as runner:
        patch.setenv("PACELINE_VERIFIER_MAX_SESSIONS", "1")
        patch.setenv("PACELINE_GATEWAY_QUEUE_SECONDS", "600")
        cluster = runner.run(LocalCluster(topology).__aenter__())
        yield cluster
        runner.run(cluster.stop())


def ask(address: str, max_tokens: int) -> HTTPConnection:
    """For a text that comes while the connection is open."""
    connection = HTTPConnection(address)
    asked = {"prompt": "def f(", "max_tokens": max_tokens, "ignore_eos": True, "stream": True}
    connection.request("POST", "/v1/completions", json.dumps(asked), {"Content-Type": "application/json"})
    return connection


def until(happened: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not happened():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def reading(sessions: float, steps: float = 0.0, waits: float = 0.0) -> Reading:
    return Reading({"verifier/big-0": sessions / 2, "verifier/big-1": sessions / 2}, CAPACITY, {"m": 0.0}, steps, waits)


def test_queues_and_seconds_of_gateways_add_up_and_sessions_are_the_same_ones(local: LocalCluster) -> None:
    until(lambda: sum(read([fetch(local.topology, local.http_address)]).capacity.values()) == PLACES)
    with closing(ask(local.http_address, 8)) as connection:
        connection.getresponse().read()
    text = fetch(local.topology, local.http_address)
    one, two = read([text]), read([text, text])
    assert one.capacity == {"verifier/big-0": 1.0, "verifier/big-1": 1.0}
    assert one.step_seconds >= 0.02
    assert (two.capacity, two.sessions) == (one.capacity, one.sessions)
    assert (two.step_seconds, two.wait_seconds) == (2 * one.step_seconds, 2 * one.wait_seconds)


def test_verifiers_follow_the_mean_of_the_readings() -> None:
    assert "verifiers.big" not in advise(TOPOLOGY, [reading(120), reading(130)])
    assert advise(TOPOLOGY, [reading(100), reading(320)])["verifiers.big"] == 3


def test_drafters_follow_what_was_waited_since_the_first_reading() -> None:
    wanted = advise(TOPOLOGY, [reading(130, 100, 900), reading(130, 160, 940)])
    assert wanted == {"drafters.small": 4}


@pytest.mark.parametrize(("late", "pool"), [("verifier/big-1", "verifiers.big"), ("drafter/small-1", "drafters.small")])
def test_a_pool_does_not_grow_while_it_waits_for_its_workers(late: str, pool: str) -> None:
    """Else it would grow the more the longer they take to start."""
    readings = [reading(320, 100, 900), reading(320, 160, 940)]
    assert advise(TOPOLOGY, readings).keys() == {"verifiers.big", "drafters.small"}
    others = {key: of for key, of in CAPACITY.items() if key != late}
    for capacity in (others, {**others, late: 0.0}):
        assert pool not in advise(TOPOLOGY, [replace(readings[0], capacity=capacity), readings[1]])


@pytest.mark.parametrize("last", [reading(130, 100, 900), reading(130, 5, 1)])
def test_of_drafters_nothing_is_advised_where_nothing_was_said_or_a_gateway_is_new(last: Reading) -> None:
    assert advise(TOPOLOGY, [reading(130, 100, 900), last]) == {}


def test_verifiers_follow_what_a_gateway_says_up_and_down(local: LocalCluster) -> None:
    """From texts that run and wait to what is asked for: five of them at two places are seven, none is one."""
    advisor, done = Advisor(read_seconds=0.01), list[tuple[str, int]]()

    def waiting() -> float:
        return sum(read([fetch(local.topology, local.http_address)]).waiting.values())

    def advised(replicas: int) -> bool:
        advisor.look(local.topology, [local.http_address])
        return advisor.advice == {"verifiers.big": replicas}

    with ExitStack() as texts:
        for _ in range(ASKED):
            texts.enter_context(closing(ask(local.http_address, 4000)))
        until(lambda: waiting() == ASKED - PLACES)
        until(lambda: advised(7))
        advisor.follow(lambda pool, replicas: done.append((pool, replicas)))
    until(lambda: advised(1))
    advisor.follow(lambda pool, replicas: done.append((pool, replicas)))
    assert done == [("verifiers.big", 7), ("verifiers.big", 1)]
    nobody = Reservation()
    advisor.look(local.topology, [local.http_address, f"127.0.0.1:{nobody.port}"])
    nobody.release()
    assert advisor.advice == {}  # one gateway does not say how it is


def test_advice_for_which_there_is_no_room_holds_up_no_other(caplog: pytest.LogCaptureFixture) -> None:
    done = []

    def scale(pool: str, replicas: int) -> None:
        if pool == "verifiers.big":
            raise FieldError(pool, replicas, "a node for each")
        done.append((pool, replicas))

    advisor = Advisor()
    advisor.advice = {"verifiers.big": 3, "drafters.small": 4}
    with caplog.at_level(logging.WARNING):
        advisor.follow(scale)
    assert done == [("drafters.small", 4)]
    assert "verifiers.big = 3" in caplog.text
