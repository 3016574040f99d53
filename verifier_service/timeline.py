"""A session's events as values that can leave the process: nodes get ids, times start when the session does."""

from __future__ import annotations

import time
from collections.abc import Iterable

from paceline.messages import DraftingEvent, NodesArrived, PhaseEnded, SessionPlaced, StepDecided
from paceline.speculation.tree import Node, State
from verifier_service.record import Arrival, Event, Phase, Step


class Timeline:
    """Writes down one session. It must see each event as it happens: nodes lose their parents when they die."""

    def __init__(self, opened_at: float, verifier_id: str, epoch: int) -> None:
        """``opened_at``: now, on the clock of the events."""
        self._opened_at, self._opened_unix = opened_at, time.time()
        self._last_node_id = 0
        self._written: list[DraftingEvent] = [SessionPlaced(verifier_id, epoch, self._opened_unix)]

    def write(self, event: Event) -> None:
        """Takes down what happened."""
        match event:
            case Arrival():
                self._written.append(self._arrival(event))
            case Phase():
                started, ended = event.started_at - self._opened_at, event.ended_at - self._opened_at
                self._written.append(PhaseEnded(event.name, "verifier", started, ended, event.tokens))
            case Step():
                self._written.append(self._step(event))

    def take(self) -> tuple[DraftingEvent, ...]:
        """What was written since the last time."""
        written, self._written = tuple(self._written), []
        return written

    def _arrival(self, event: Arrival) -> NodesArrived:
        nodes = sorted((*event.nodes, *event.seconded), key=lambda node: node.position)
        growth = event.growth
        return NodesArrived(
            at=event.at - self._opened_at,
            drafter_id=event.drafter_id,
            node_ids=self._ids(nodes),
            parent_ids=tuple(self._parent_id(node) for node in nodes),
            token_ids=tuple(node.token_id for node in nodes),
            positions=tuple(node.position for node in nodes),
            log_scores=tuple(node.sources[event.drafter_id] for node in nodes),
            idle_seconds=event.idle_seconds,
            busy_seconds=event.busy_seconds,
            grown_from=growth.started - self._opened_unix if growth else 0.0,
            sent_at=growth.sent - self._opened_unix if growth else 0.0,
        )

    def _step(self, event: Step) -> StepDecided:
        return StepDecided(
            rooted_at=event.rooted_at - self._opened_at,
            launched_at=event.launched_at - self._opened_at,
            decided_at=event.decided_at - self._opened_at,
            verified_ids=self._ids(event.verified),
            accepted_ids=self._ids(event.accepted),
            token_ids=tuple(event.token_ids),
            position=event.position,
        )

    def _parent_id(self, node: Node) -> int:
        above = node.parent
        return 0 if above is None or above.state is State.COMMITTED else self._id(above)

    def _ids(self, nodes: Iterable[Node]) -> tuple[int, ...]:
        return tuple(self._id(node) for node in nodes)

    def _id(self, node: Node) -> int:
        if node.node_id == 0:
            self._last_node_id += 1
            node.node_id = self._last_node_id
        return node.node_id
