"""What happened in a session, in numbers: the event record that the page and timelines draw.

Times are seconds on the verifier's clock since the session was opened. Nodes are named by ids that are unique in the
session; parent 0 is the root, the last committed token, at the node's ``position - 1``.
"""

from __future__ import annotations

from dataclasses import dataclass

DraftedNode = tuple[int, int, int, int, float]
"""Id, parent's id, token, position, and what the drafter said of it: log P(accepted | parent accepted)."""


@dataclass(frozen=True)
class NodesArrived:
    """Nodes have come from a drafter; one that another drafter had proposed before comes again with the same id."""

    at: float
    drafter_id: str
    nodes: tuple[DraftedNode, ...]
    idle_seconds: float
    """How long, since its last message, the drafter had nothing to grow."""
    busy_seconds: float
    """The rest of that time."""

    def as_json(self) -> dict[str, object]:
        return {
            "type": "arrival",
            "at": _round(self.at),
            "drafter": self.drafter_id,
            "nodes": [[*node[:4], round(node[4], 2)] for node in self.nodes],
            "idle": _round(self.idle_seconds),
            "busy": _round(self.busy_seconds),
        }


@dataclass(frozen=True)
class StepDecided:
    """A step has decided: ``token_ids`` follow ``position`` tokens, accepted nodes first, then the target's own."""

    rooted_at: float
    launched_at: float
    decided_at: float
    verified: tuple[int, ...]
    """Ids of nodes."""
    accepted: tuple[int, ...]
    token_ids: tuple[int, ...]
    position: int

    def as_json(self) -> dict[str, object]:
        return {
            "type": "step",
            "rooted": _round(self.rooted_at),
            "launched": _round(self.launched_at),
            "decided": _round(self.decided_at),
            "verified": list(self.verified),
            "accepted": list(self.accepted),
            "token_ids": list(self.token_ids),
            "position": self.position,
        }


TimelineEvent = NodesArrived | StepDecided


def _round(seconds: float) -> float:
    """To microseconds: no clock here is better, and JSON is shorter."""
    return round(seconds, 6)
