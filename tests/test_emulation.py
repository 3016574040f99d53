"""Emulated time is at least what was asked for, nothing is lost or overtaken on an emulated wire, rates are met."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import AsyncIterator

import pytest

from paceline.emulation import LOG_EVERY, EmulatedLink, Lateness, Pace, SyntheticAcceptance
from paceline.logs import JSON, TEXT
from paceline.speculation.fields import FieldError
from paceline.speculation.tree import DraftTree, Node, Selection
from tests.logs.capturing import written


def test_a_forward_takes_the_larger_of_its_own_and_the_given_time() -> None:
    pace = Pace.parse("20ms,per_row=1ms")
    assert pace is not None
    started = time.perf_counter()
    pace.hold(started, rows=6)
    assert time.perf_counter() - started >= 0.025
    pace.hold(started - 1.0, rows=1)
    assert (pace.forwards, pace.missed) == (2, 1)
    assert pace.asked_seconds == pytest.approx(0.045)
    assert pace.late_seconds >= 0.98
    assert Pace.parse("") is None


def test_a_table_says_what_rows_take() -> None:
    pace = Pace.parse("40ms,8=41ms,64=44ms,per_session=1ms")
    assert pace is not None
    times = [pace.seconds(rows) for rows in (1, 8, 36, 64, 120)]
    assert times == pytest.approx([0.040, 0.041, 0.0425, 0.044, 0.047])
    assert pace.seconds(8, sessions=3) == pytest.approx(0.043)
    assert pace.seconds(5, prompt_rows=3) == pace.seconds(8)


def test_prompts_and_context_take_their_own_time() -> None:
    pace = Pace.parse("40ms,per_row=1ms,prompt_token=100us,context=2ms")
    assert pace is not None
    assert pace.seconds(3, prompt_rows=10, context=512) == pytest.approx(0.040 + 0.002 + 0.001 + 0.001)
    assert pace.seconds(0, prompt_rows=256) == pytest.approx(0.0256)


@pytest.mark.parametrize("form", [JSON, TEXT])
def test_what_a_service_logs_of_its_pace_is_read(form: str) -> None:
    pace = Pace.parse("1ms")
    assert pace is not None
    with written(form) as log:
        for late in (True, *[False] * (2 * LOG_EVERY - 1)):
            pace.hold(time.perf_counter() - late, rows=1)
    first, both = (Lateness.read("\n".join([*log.getvalue().splitlines()[:count], "more"])) for count in (1, 2))
    assert (first.forwards, both.forwards) == (LOG_EVERY, 2 * LOG_EVERY)
    assert first.asked_seconds == pytest.approx(LOG_EVERY * 1e-3)
    assert first.missed >= 1
    assert first.late_seconds >= 0.99
    assert both.since(first).forwards == LOG_EVERY
    assert both.share == both.missed / both.forwards
    assert Lateness.read("nothing of a pace") == Lateness()


def test_messages_arrive_in_order_after_half_a_round_trip_and_their_own_length() -> None:
    wire = EmulatedLink.parse("rtt=10ms,jitter=2ms,bandwidth=8mbps")
    assert wire is not None
    arrivals = [wire.arrival(now=0.001 * index, size_bytes=1000) for index in range(50)]
    assert all(later - earlier >= 0.001 - 1e-9 for earlier, later in itertools.pairwise(arrivals))
    assert 0.006 <= arrivals[0] <= 0.008 + 1e-9
    back = wire.other_direction()
    assert back.arrival(0.0, 0) < arrivals[-1]
    assert EmulatedLink.parse("") is None


async def test_a_wire_carries_everything_and_what_ends_it() -> None:
    async def source() -> AsyncIterator[int]:
        for item in range(20):
            yield item
        raise ConnectionError("broken")

    found: list[int] = []

    async def receive() -> None:
        async for item in EmulatedLink(rtt_seconds=0.04).carry(source(), lambda _: 0):
            found.append(item)  # noqa: PERF401 - what came before the end counts

    started = asyncio.get_running_loop().time()
    with pytest.raises(ConnectionError, match="broken"):
        await receive()
    assert found == list(range(20))
    assert asyncio.get_running_loop().time() - started >= 0.019


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("fast", "fast"),
        ("40", "a time such as"),
        ("40ms,rows=2", "per_row="),
        ("40ms,per_row=x", "a time such as"),
        ("40ms,1=41ms", "rising"),
        ("40ms,8=41ms,4=41ms", "rising"),
        ("40ms,8=41ms,per_row=1ms", "rising"),
    ],
)
def test_a_pace_that_makes_no_sense_is_refused(text: str, says: str) -> None:
    with pytest.raises(FieldError, match=says):
        Pace.parse(text)


@pytest.mark.parametrize("text", ["5ms", "rtt=5", "rtt=5ms,bandwidth=fast", "delay=3ms"])
def test_a_wire_that_makes_no_sense_is_refused(text: str) -> None:
    with pytest.raises(FieldError):
        EmulatedLink.parse(text)


def test_rates_of_acceptance_are_read() -> None:
    assert SyntheticAcceptance.parse("0.8,1,0") == SyntheticAcceptance((0.8, 1.0, 0.0))
    assert SyntheticAcceptance.parse("") is None


@pytest.mark.parametrize("text", ["often", "0.8,", "0.8 0.6", "1.2", "0.5,-0.1", "nan"])
def test_rates_that_make_no_sense_are_refused(text: str) -> None:
    with pytest.raises(FieldError, match=f"emulate_acceptance = '{text}': expected probabilities from 0 to 1"):
        SyntheticAcceptance.parse(text)


def chain_with_siblings(depth: int, position: int = 5) -> tuple[DraftTree, Selection]:
    """Below the root at each level the likelier token 10 + depth, which has children, and 20 + depth."""
    tree = DraftTree(1, position)
    parent, chosen = tree.root, dict[Node, float]()
    for level in range(1, depth + 1):
        likelier, _ = tree.add(parent, 10 + level, -0.1 * level)
        other, _ = tree.add(parent, 20 + level, -2.0)
        chosen |= {likelier: -0.1 * level, other: -2.0 - 0.1 * level}
        parent = likelier
    return tree, tree.in_rows(chosen)


def test_the_likeliest_child_is_said_as_often_as_the_rate_of_its_depth() -> None:
    """Each count is within five standard deviations: a false alarm in about a million runs, were the keys not fixed."""
    rates, keys = (0.9, 0.3), 4000
    tree, selection = chain_with_siblings(4)
    said = [0] * 4
    for key in range(keys):
        choice = SyntheticAcceptance(rates).choice(lambda _: -1, selection, tree.root, key)
        for row in range(4):
            assert choice(row) in (-1, 11 + row)
            said[row] += choice(row) == 11 + row
    for count, rate in zip(said, (0.9, 0.3, 0.3, 0.3), strict=True):
        assert abs(count / keys - rate) < 5 * (rate * (1 - rate) / keys) ** 0.5


def test_where_a_step_ends_what_has_come_meanwhile_is_followed() -> None:
    tree, selection = chain_with_siblings(1)
    leaf = selection.nodes[0]
    choice = SyntheticAcceptance((1.0,)).choice(lambda _: -1, selection, tree.root, 7)
    assert [choice(row) for row in range(3)] == [11, -1, -1]
    tree.add(leaf, 31, -3.0)
    tree.add(leaf, 32, -1.0)
    tree.add(tree.root, 33, 0.0)
    assert [choice(row) for row in range(3)] == [11, 32, -1]
