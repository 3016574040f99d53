"""Who guessed what when, as the page and timelines read it."""

from __future__ import annotations

from typing import Any

from paceline.messages import Chunk, DraftingEvent, NodesArrived, PhaseEnded, SessionPlaced, StepDecided


def speculation_body(chunk: Chunk) -> dict[str, Any]:
    """The tokens of a chunk with who had proposed each of them, and what happened meanwhile."""
    pieces = chunk.pieces or ("",) * len(chunk.token_ids)
    drafters = chunk.drafters or ((),) * len(chunk.token_ids)
    rows = zip(chunk.token_ids, pieces, drafters, strict=True)
    return {
        "tokens": [{"id": token_id, "text": text, "drafters": list(names)} for token_id, text, names in rows],
        "events": [event_body(event) for event in chunk.events],
    }


def event_body(event: DraftingEvent) -> dict[str, Any]:
    """One event, in plain values."""
    match event:
        case NodesArrived():
            return _arrival(event)
        case StepDecided():
            return _step(event)
        case SessionPlaced():
            return {
                "type": "placed",
                "verifier": event.verifier_id,
                "epoch": event.epoch,
                "opened": _rounded(event.opened_unix_seconds),
            }
        case PhaseEnded():
            return {
                "type": "phase",
                "name": event.name,
                "role": event.role,
                "started": _rounded(event.started),
                "ended": _rounded(event.ended),
                "tokens": event.tokens,
            }


def _arrival(event: NodesArrived) -> dict[str, Any]:
    scores = (_rounded(score) for score in event.log_scores)
    columns = zip(event.node_ids, event.parent_ids, event.token_ids, event.positions, scores, strict=True)
    return {
        "type": "arrival",
        "at": _rounded(event.at),
        "drafter": event.drafter_id,
        "nodes": [list(node) for node in columns],
        "idle": _rounded(event.idle_seconds),
        "busy": _rounded(event.busy_seconds),
        "grown_from": _rounded(event.grown_from),
        "sent": _rounded(event.sent_at),
    }


def _step(event: StepDecided) -> dict[str, Any]:
    return {
        "type": "step",
        "rooted": _rounded(event.rooted_at),
        "launched": _rounded(event.launched_at),
        "decided": _rounded(event.decided_at),
        "verified": list(event.verified_ids),
        "accepted": list(event.accepted_ids),
        "token_ids": list(event.token_ids),
        "position": event.position,
    }


def _rounded(value: float) -> float:
    return round(value, 6)
