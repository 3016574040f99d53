"""Sessions that are not in the table yet: their grammars are being compiled."""

from __future__ import annotations

from dataclasses import dataclass, field

from paceline.messages import AbortSession, DecodeCommand, FinishReason, OpenSession, SessionEvent, Usage
from verifier_service.attachment import GatewayLink


@dataclass(eq=False)
class Opening:
    """One of them, and what its gateway has said since."""

    opening: OpenSession
    gateway: GatewayLink
    later: list[DecodeCommand] = field(default_factory=list)

    @property
    def epoch(self) -> int:
        return self.opening.epoch


class Openings:
    """Needs the verifier's lock."""

    def __init__(self) -> None:
        self._waiting: dict[str, Opening] = {}

    def __len__(self) -> int:
        return len(self._waiting)

    def get(self, session_id: str) -> Opening | None:
        return self._waiting.get(session_id)

    def discard(self, session_id: str) -> Opening | None:
        """A newer epoch has come; whom it takes the place of."""
        return self._waiting.pop(session_id, None)

    def add(self, opening: OpenSession, gateway: GatewayLink) -> Opening:
        waiting = self._waiting[opening.session_id] = Opening(opening, gateway)
        return waiting

    def remove(self, waiting: Opening) -> bool:
        """Its grammar is ready; whether anybody wants it still."""
        session_id = waiting.opening.session_id
        if self._waiting.get(session_id) is not waiting:
            return False
        del self._waiting[session_id]
        return True

    def abandon(self, gateway: GatewayLink) -> None:
        """A gateway's stream broke."""
        self._waiting = {name: waiting for name, waiting in self._waiting.items() if waiting.gateway is not gateway}

    def postpone(self, command: DecodeCommand) -> bool:
        """Whether the command is for a session that waits: an abort is carried out here, the others once it is open."""
        waiting = self._waiting.get(command.session_id)
        if waiting is None or isinstance(command, OpenSession):
            return False
        if not isinstance(command, AbortSession):
            waiting.later.append(command)
        elif command.epoch == waiting.epoch:
            del self._waiting[command.session_id]
            usage = Usage(waiting.opening.prompt_length, 0)
            event = SessionEvent(command.session_id, command.epoch, finish_reason=FinishReason.ABORT, usage=usage)
            waiting.gateway.send([event])
        return True
