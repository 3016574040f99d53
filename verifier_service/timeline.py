"""A session's events as values that can leave the process: nodes get ids, times start when the session does."""

from __future__ import annotations

from collections.abc import Iterable

from paceline.messages.timeline import DraftedNode, NodesArrived, StepDecided, TimelineEvent
from paceline.speculation.tree import Node, State
from verifier_service.record import Arrival, Event, Step


class Timeline:
    """Writes down one session. It must see each event as it happens: nodes lose their parents when they die."""

    def __init__(self, opened_at: float) -> None:
        """``opened_at``: on the clock of the events."""
        self._opened_at = opened_at
        self._last_node_id = 0
        self._decided_at = opened_at
        self._heard_at: dict[str, float] = {}
        """When each drafter's message in the making was begun."""

    def write(self, event: Event) -> TimelineEvent:
        """What happened, in numbers."""
        match event:
            case Arrival():
                return self._arrival(event)
            case Step():
                return self._step(event)

    def _arrival(self, event: Arrival) -> NodesArrived:
        # A drafter that nobody had heard of before was let in after the last step.
        since = self._heard_at.get(event.drafter_id, self._decided_at)
        self._heard_at[event.drafter_id] = event.at
        nodes = sorted((*event.nodes, *event.seconded), key=lambda node: node.position)
        return NodesArrived(
            at=self._seconds(event.at),
            drafter_id=event.drafter_id,
            nodes=tuple(self._drafted(node, event.drafter_id) for node in nodes),
            idle_seconds=event.idle_seconds,
            busy_seconds=max(0.0, event.at - since - event.idle_seconds),
        )

    def _step(self, event: Step) -> StepDecided:
        for drafter_id in event.drafters:
            self._heard_at.setdefault(drafter_id, self._decided_at)
        for drafter_id in self._heard_at.keys() - set(event.drafters):
            self._heard_at[drafter_id] = event.decided_at  # it had no credit: it was neither busy nor idle
        self._decided_at = event.decided_at
        return StepDecided(
            rooted_at=self._seconds(event.rooted_at),
            launched_at=self._seconds(event.launched_at),
            decided_at=self._seconds(event.decided_at),
            verified=self._ids(event.verified),
            accepted=self._ids(event.accepted),
            token_ids=tuple(event.token_ids),
            position=event.position,
        )

    def _drafted(self, node: Node, drafter_id: str) -> DraftedNode:
        above = node.parent
        parent_id = 0 if above is None or above.state is State.COMMITTED else self._id(above)
        return self._id(node), parent_id, node.token_id, node.position, node.sources[drafter_id]

    def _ids(self, nodes: Iterable[Node]) -> tuple[int, ...]:
        return tuple(self._id(node) for node in nodes)

    def _id(self, node: Node) -> int:
        if node.node_id == 0:
            self._last_node_id += 1
            node.node_id = self._last_node_id
        return node.node_id

    def _seconds(self, at: float) -> float:
        return at - self._opened_at
