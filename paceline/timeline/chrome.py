"""A timeline in Chrome's trace format, which Perfetto and chrome://tracing open.

https://docs.google.com/document/d/1CvAClvFfyA5R-PhYUmn5OOQtYMH4h6I0nSsKchNAySU: a process per gateway, drafter and
verifier of each answer, complete events in microseconds, and an arrow from each growth to each step that checked nodes
of it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

Event = dict[str, Any]
SLACK_SECONDS, MOST_WIRE_SECONDS = 5e-3, 5.0
"""As in gateway/page/record.js: clocks that contradict each other more than that are not believed."""
_THREADS = {"gateway": "phases", "drafter": "growth", "verifier": "steps"}
_ORDER = tuple(_THREADS)


def chrome_trace(timeline: Mapping[str, Any]) -> Event:
    """``{"traceEvents": [...]}``, sorted by time. Each answer's time begins when its request came."""
    trace = _Trace()
    for number, answer in enumerate(timeline["answers"]):
        _Answer(trace, answer, number, several=len(timeline["answers"]) > 1).write()
    return {"traceEvents": trace.sorted(), "displayTimeUnit": "ms"}


@dataclass
class _Trace:
    metadata: list[Event] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)
    flows: int = 0
    _processes: dict[tuple[int, str, str], int] = field(default_factory=dict)

    def process(self, answer: int, role: str, name: str, title: str) -> int:
        """Its pid; one that is new gets a name and its place from top to bottom."""
        key = (answer, role, name)
        if key not in self._processes:
            pid = self._processes[key] = len(self._processes) + 1
            place = answer * len(_ORDER) + _ORDER.index(role)
            for kind, args in (
                ("process_name", {"name": title}),
                ("process_sort_index", {"sort_index": place}),
                ("thread_name", {"name": _THREADS[role]}),
            ):
                self.metadata.append({"ph": "M", "name": kind, "pid": pid, "tid": 1, "ts": 0, "args": args})
        return self._processes[key]

    def flow(self, start: Event, end: Event) -> None:
        """An arrow from one complete event to another."""
        self.flows += 1
        common = {"name": "checked", "cat": "draft", "id": self.flows}
        ends: tuple[tuple[str, Event, Event], ...] = (("s", start, {}), ("f", end, {"bp": "e"}))
        for phase, at, more in ends:
            self.events.append({**common, "ph": phase, "ts": at["ts"], "pid": at["pid"], "tid": 1, **more})

    def sorted(self) -> list[Event]:
        """Metadata first; of what begins together, what lasts longest."""
        return self.metadata + sorted(self.events, key=lambda event: (event["ts"], -event.get("dur", 0)))


class _Answer:
    """Writes one answer down."""

    def __init__(self, trace: _Trace, answer: Mapping[str, Any], number: int, *, several: bool) -> None:
        self._trace, self._answer, self._number = trace, answer, number
        self._texts: Mapping[str, str] = answer["texts"]
        self._before = f"{number + 1} {answer['mode']}: " if several else ""
        self._opened = 0.0
        self._verifier = "verifier"
        self._grown: dict[int, Event] = {}
        """The growth that each node came in, by id."""
        self._ends: dict[int, float] = {}
        """When the last event of each process ended: they do not lie over each other."""
        self._last = 0.0

    def write(self) -> None:
        takes = {"placed": self._place, "phase": self._phase, "arrival": self._arrival, "step": self._step}
        for event in self._answer["events"]:
            takes[event["type"]](event)
        if finish := self._answer["finish"]:
            pid = self._process("gateway", "gateway")
            self._span(pid, "answer", self._ends.get(pid, 0.0), finish["ended"], finish)

    def _place(self, event: Event) -> None:
        self._opened = max(self._last, event["opened"] - self._answer["started"])
        self._verifier = event["verifier"]
        self._grown.clear()

    def _phase(self, event: Event) -> None:
        name = "gateway" if event["role"] == "gateway" else self._verifier
        pid = self._process(event["role"], name)
        self._at(pid, event["name"], event["started"], event["ended"], {"tokens": event["tokens"]})

    def _arrival(self, event: Event) -> None:
        at, started, sent = event["at"], event.get("grown_from", 0.0), event.get("sent", 0.0)
        believed = (started or sent) and started <= sent and -SLACK_SECONDS <= at - sent <= MOST_WIRE_SECONDS
        started, sent = (started, min(sent, at)) if believed else (at - event["busy"], at)
        nodes = [
            {"id": row[0], "parent": row[1], "token": self._text(row[2]), "probability": round(math.exp(row[4]), 4)}
            for row in event["nodes"]
        ]
        args = {"arrived_ms": round(1000 * (self._opened + at), 3), "nodes": nodes}
        pid = self._process("drafter", event["drafter"])
        grown = self._at(pid, f"{len(nodes)} nodes", started, sent, args)
        for row in event["nodes"]:
            self._grown.setdefault(row[0], grown)

    def _step(self, event: Event) -> None:
        pid = self._process("verifier", self._verifier)
        if event["launched"] > event["rooted"]:
            self._at(pid, "wait", event["rooted"], event["launched"], {})
        accepted, verified = event["accepted"], event["verified"]
        said = [self._text(token_id) for token_id in event["token_ids"]]
        args = {"rows": 1 + len(verified), "accepted": len(accepted), "says": said, "position": event["position"]}
        step = self._at(pid, f"step of {1 + len(verified)}", event["launched"], event["decided"], args)
        growths = {id(grown): grown for node in verified if (grown := self._grown.get(node)) is not None}
        for grown in growths.values():
            if grown["ts"] <= step["ts"]:
                self._trace.flow(grown, step)

    def _process(self, role: str, name: str) -> int:
        title = name if name.startswith(role) else f"{role} {name}"
        return self._trace.process(self._number, role, name, self._before + title)

    def _at(self, pid: int, name: str, started: float, ended: float, args: Event) -> Event:
        return self._span(pid, name, self._opened + started, self._opened + ended, args)

    def _span(self, pid: int, name: str, started: float, ended: float, args: Event) -> Event:
        started = max(0.0, started, self._ends.get(pid, 0.0))
        ended = max(started, ended)
        self._ends[pid], self._last = ended, max(self._last, ended)
        ts = round(1e6 * started, 1)
        event = {
            "ph": "X", "name": name, "cat": "paceline", "pid": pid, "tid": 1,
            "ts": ts, "dur": round(round(1e6 * ended, 1) - ts, 1), "args": args,
        }  # fmt: skip
        self._trace.events.append(event)
        return event

    def _text(self, token_id: int) -> str:
        return self._texts.get(str(token_id), f"#{token_id}")
