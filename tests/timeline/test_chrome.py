"""Timelines as Chrome traces: what Perfetto needs of them."""

from __future__ import annotations

import json
from typing import Any

import pytest

from paceline.timeline import chrome_trace
from tests.timeline.answers import HOSTILE, STARTED, WIRE, answer, arrival, in_turn, phases, recorded, step

Event = dict[str, Any]
ANSWERS = {"answers": [in_turn(), recorded()]}


def events(timeline: dict[str, Any] = ANSWERS) -> list[Event]:
    """As a reader of the file sees them."""
    trace = json.loads(json.dumps(chrome_trace(timeline)))
    assert trace["displayTimeUnit"] == "ms"
    found: list[Event] = trace["traceEvents"]
    return found


def of(kind: str, among: list[Event]) -> list[Event]:
    return [event for event in among if event["ph"] == kind]


def names(among: list[Event]) -> dict[int, str]:
    return {event["pid"]: event["args"]["name"] for event in among if event["name"] == "process_name"}


def test_every_event_has_what_its_kind_needs_and_they_are_sorted() -> None:
    found = events()
    assert {event["ph"] for event in found} == {"M", "X", "s", "f"}
    needed = {"M": {"args"}, "X": {"dur", "args", "cat"}, "s": {"id", "cat"}, "f": {"id", "cat", "bp"}}
    for event in found:
        assert {"name", "ph", "pid", "tid", "ts"} | needed[event["ph"]] <= event.keys()
        assert event["ts"] >= 0
        assert event.get("dur", 0) >= 0
    times = [event["ts"] for event in found]
    assert times == sorted(times)


def test_each_process_of_each_answer_is_named_in_order() -> None:
    found = events()
    assert list(names(found).values()) == [
        "1 lockstep: gateway", "1 lockstep: verifier big-0", "1 lockstep: drafter small-0",
        "2 overlapped: gateway", "2 overlapped: verifier big-0", "2 overlapped: drafter draft",
        "2 overlapped: drafter ngram",
    ]  # fmt: skip
    order = {event["pid"]: event["args"]["sort_index"] for event in found if event["name"] == "process_sort_index"}
    placed = sorted(names(found).items(), key=lambda one: order[one[0]])
    assert [name.split(": ")[1].split()[0] for _, name in placed] == [
        "gateway", "drafter", "verifier", "gateway", "drafter", "drafter", "verifier",
    ]  # fmt: skip
    threads = {(event["pid"], event["tid"]) for event in found if event["name"] == "thread_name"}
    assert threads == {(event["pid"], event["tid"]) for event in found}


def test_nothing_lies_over_anything_else_in_its_thread() -> None:
    ends: dict[int, float] = {}
    for event in of("X", events()):
        assert event["ts"] >= ends.get(event["pid"], 0.0)
        ends[event["pid"]] = round(event["ts"] + event["dur"], 1)


def test_arrows_lead_from_growths_to_the_steps_that_checked_them() -> None:
    found = events()
    starts, ends = of("s", found), of("f", found)
    assert len(starts) > 20
    assert sorted(event["id"] for event in starts) == sorted(event["id"] for event in ends)
    assert len({event["id"] for event in starts}) == len(starts)
    slices = {(event["pid"], event["ts"]): event for event in of("X", found)}
    titles, heads = names(found), {event["id"]: event for event in ends}
    for start in starts:
        end = heads[start["id"]]
        assert start["ts"] <= end["ts"]
        assert slices[start["pid"], start["ts"]]["name"].endswith(" nodes")
        assert slices[end["pid"], end["ts"]]["name"].startswith("step of ")
        assert titles[start["pid"]].split(":")[0] == titles[end["pid"]].split(":")[0]
    lockstep = [start for start in starts if titles[start["pid"]].startswith("1 ")]
    assert len(lockstep) == 2


def test_steps_waits_phases_and_tokens_are_told() -> None:
    found = [event for event in events({"answers": [in_turn()]}) if event["ph"] == "X"]
    titles = names(events({"answers": [in_turn()]}))
    told = [(titles[event["pid"]], event["name"]) for event in found]
    assert told == [
        ("gateway", "tokenize"), ("gateway", "queue"), ("gateway", "answer"),
        ("verifier big-0", "queue"), ("verifier big-0", "prefill"), ("verifier big-0", "step of 1"),
        ("verifier big-0", "wait"), ("drafter small-0", "4 nodes"), ("verifier big-0", "step of 3"),
        ("verifier big-0", "wait"), ("drafter small-0", "2 nodes"), ("verifier big-0", "step of 2"),
    ]  # fmt: skip
    grown, checked = found[7], found[8]
    assert grown["ts"] == pytest.approx(1e6 * (0.01 + 0.052 - WIRE - 0.004), abs=1)
    assert grown["dur"] == pytest.approx(4000, abs=1)
    assert grown["args"]["arrived_ms"] == pytest.approx(62)
    first = grown["args"]["nodes"][0]
    assert (first["token"], first["probability"]) == (HOSTILE[1], pytest.approx(0.6065, abs=1e-4))
    assert checked["args"] == {"rows": 3, "accepted": 1, "says": [HOSTILE[1], HOSTILE[2]], "position": 10}


def test_after_a_failover_the_session_lies_where_it_was_opened_again() -> None:
    again = {"type": "placed", "verifier": "big-1", "epoch": 2, "opened": STARTED + 1.0}
    told = [*phases(), step(0.0, 0.0, [], [], [1], 9), again, arrival(0.01, [[1, 0, 2, 10, -1.0]])]
    told.append(step(0.0, 0.02, [1], [1], [2, 3], 10))
    found = events({"answers": [answer("overlapped", told, {}, 1.1)]})
    titles = names(found)
    steps = [event for event in of("X", found) if event["name"].startswith("step")]
    assert [titles[event["pid"]] for event in steps] == ["verifier big-0", "verifier big-1"]
    assert steps[1]["ts"] == pytest.approx(1.02e6)


def test_clocks_that_contradict_each_other_are_not_believed() -> None:
    for off in (-100.0, 100.0):
        strange = arrival(0.05, [[1, 0, 2, 9, -1.0]])
        strange["grown_from"] += off
        strange["sent"] += off
        found = events({"answers": [answer("overlapped", [*phases(), strange], {}, 0.1)]})
        (growth,) = [event for event in of("X", found) if event["name"] == "1 nodes"]
        assert growth["ts"] == pytest.approx(1e6 * (0.01 + 0.05 - 0.004), abs=1)
