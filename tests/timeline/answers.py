"""Answers as a gateway keeps them: one recorded, one made by hand."""

from __future__ import annotations

import json
from typing import Any

from tests.gateway.replay import SESSION

Answer = dict[str, Any]
STARTED = 1_795_640_600.0
WIRE = 0.002
HOSTILE = [
    "</script><script>document.title='taken'</script>",
    "\"'`${1}<!--",
    "\u202eright to left\u2066",
    "nul\x00\x1b[31m",
    "\u2028\u2029&amp;",
    '<img src="https://example.com/x" onerror="document.title=1">',
]
"""What tokens may read."""


def phases() -> list[Answer]:
    return [
        {"type": "placed", "verifier": "big-0", "epoch": 1, "opened": STARTED + 0.01},
        phase("tokenize", "gateway", -0.01, -0.006),
        phase("queue", "gateway", -0.006, -0.001),
        phase("queue", "verifier", 0.0, 0.0005),
    ]


def phase(name: str, role: str, started: float, ended: float) -> Answer:
    return {"type": "phase", "name": name, "role": role, "started": started, "ended": ended, "tokens": 9}


def arrival(at: float, nodes: list[list[float]], drafter: str = "small-0", busy: float = 0.004) -> Answer:
    sent = at - WIRE
    return {
        "type": "arrival", "at": at, "drafter": drafter, "nodes": nodes, "idle": 0.0, "busy": busy,
        "grown_from": sent - busy, "sent": sent,
    }  # fmt: skip


def step(rooted: float, launched: float, verified: list[int], accepted: list[int], says: list[int], at: int) -> Answer:
    return {
        "type": "step", "rooted": rooted, "launched": launched, "decided": launched + 0.04, "verified": verified,
        "accepted": accepted, "token_ids": says, "position": at,
    }  # fmt: skip


def answer(mode: str, events: list[Answer], texts: dict[str, str], ended: float) -> Answer:
    tokens = sum(len(event["token_ids"]) for event in events if event["type"] == "step")
    return {
        "session": f"{mode}-session", "model": "m", "mode": mode, "seed": (1 << 64) - 1, "prompt_tokens": 9,
        "started": STARTED, "events": events, "texts": texts, "cut": False,
        "finish": {"reason": "length", "tokens": tokens, "ttft": 0.05, "tpot": 0.02, "ended": ended},
    }  # fmt: skip


def recorded() -> Answer:
    """The session that the page's tests replay, with what a gateway adds to it."""
    told = json.loads(json.dumps([event for chunk in SESSION["chunks"] for event in chunk["events"]]))
    for event in told:
        if event["type"] == "arrival":
            sent = max(0.0, event["at"] - WIRE)
            event |= {"grown_from": max(0.0, sent - event["busy"]), "sent": sent}
    texts = {str(token["id"]): token["text"] for chunk in SESSION["chunks"] for token in chunk["tokens"]}
    return answer("overlapped", [*phases(), *told], texts, 0.01 + told[-1]["decided"] + 0.01)


def in_turn() -> Answer:
    """Two steps, and drafting before each; all fates of nodes; what tokens read is hostile. The first step was the
    last part of the prompt."""
    events = [
        *phases(),
        phase("prefill", "verifier", 0.0005, 0.04),
        step(0.0005, 0.0005, [], [], [10], 9) | {"decided": 0.0401},
        arrival(0.052, [[1, 0, 11, 10, -0.5], [2, 0, 12, 10, -1.5], [3, 1, 12, 11, -0.1], [4, 2, 13, 11, -9.0]]),
        step(0.0401, 0.052, [1, 2], [1], [11, 12], 10),
        arrival(0.105, [[5, 0, 14, 12, -0.7], [6, 3, 15, 12, -0.2]]),
        step(0.092, 0.105, [5], [], [15], 12),
    ]
    return answer("lockstep", events, {str(10 + index): text for index, text in enumerate(HOSTILE)}, 0.17)
