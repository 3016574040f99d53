"""From what gateways say to advice, and from advice to what is done."""

from __future__ import annotations

import logging

import pytest

from paceline.cluster.ray.advisor import Advisor
from paceline.cluster.ray.load import Reading, advise, read
from paceline.cluster.topology import DrafterPool, ModelRoute, Topology, VerifierPool
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
CAPACITY = {"big-0": 100.0, "big-1": 100.0}
METRICS = """
# TYPE paceline_sessions gauge
paceline_sessions{{role="verifier",worker="big-0"}} {sessions}
paceline_sessions{{role="drafter",worker="small-0"}} 70
# TYPE paceline_worker_capacity gauge
paceline_worker_capacity{{role="verifier",worker="big-0"}} 100
# TYPE paceline_waiting_requests gauge
paceline_waiting_requests{{model="m"}} 3
# TYPE paceline_step_seconds counter
paceline_step_seconds_total 10
# TYPE paceline_verifier_wait_seconds counter
paceline_verifier_wait_seconds_total 2
"""


def reading(sessions: float, steps: float = 0.0, waits: float = 0.0) -> Reading:
    return Reading({"big-0": sessions / 2, "big-1": sessions / 2}, CAPACITY, {"m": 0.0}, steps, waits)


def test_queues_and_seconds_of_gateways_add_up_and_sessions_are_the_same_ones() -> None:
    said = read([METRICS.format(sessions=40), METRICS.format(sessions=41)])
    assert said == Reading({"big-0": 41.0}, {"big-0": 100.0}, {"m": 6.0}, 20.0, 4.0)


def test_verifiers_follow_the_mean_of_the_readings() -> None:
    assert "verifiers.big" not in advise(TOPOLOGY, [reading(120), reading(130)])
    assert advise(TOPOLOGY, [reading(100), reading(320)])["verifiers.big"] == 3


def test_drafters_follow_what_was_waited_since_the_first_reading() -> None:
    wanted = advise(TOPOLOGY, [reading(130, 100, 900), reading(130, 160, 940)])
    assert wanted == {"drafters.small": 4}


@pytest.mark.parametrize("last", [reading(130, 100, 900), reading(130, 5, 1)])
def test_of_drafters_nothing_is_advised_where_nothing_was_said_or_a_gateway_is_new(last: Reading) -> None:
    assert advise(TOPOLOGY, [reading(130, 100, 900), last]) == {}


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
