"""One session and the journal: whose it is, how long it is, and whether it can be resumed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from gateway.tokens import ResumeToken
from paceline.cluster.journal import Journal, JournalAway, Outcome, Record
from paceline.errors import Aborted
from paceline.messages import JournaledSession, SessionEvent

NOT_RESUMABLE = "the answer could not be resumed: the journal was away"


@dataclass
class Keeper:
    """Keeps what a session says before anybody hears it, for as long as the journal takes it."""

    journal: Journal
    session: JournaledSession
    epoch: int
    past: Sequence[SessionEvent] = ()
    """What the session had said when it was taken over."""
    kept: bool = True
    """Whether the journal has all there is: the answer can be resumed."""
    length: int = field(init=False)
    """Tokens that the journal has."""

    def __post_init__(self) -> None:
        self.length = sum(len(event.committed.token_ids) for event in self.past if event.committed)

    async def keep(self, event: SessionEvent) -> None:
        """Raises ``Aborted`` if the session goes on elsewhere: then nobody here shall hear of this event."""
        if not self.kept or not (event.committed or event.last):
            return
        record = Record(self.session.opening.session_id, self.epoch, self.length, event)
        outcome = await self.journal.append(record)
        if outcome is Outcome.TAKEN:
            raise taken_over()
        self.kept = outcome is Outcome.KEPT
        self.length += record.tokens

    async def next_epoch(self) -> None:
        """The session goes to another verifier; raises ``Aborted`` if it is another gateway's by now."""
        if self.kept:
            try:
                if await self.journal.take(self.session.opening.session_id, self.epoch) is None:
                    raise taken_over()
            except JournalAway:
                self.kept = False
        self.epoch += 1

    def token(self, length: int, prefix_hash: int) -> str:
        """Resumes the answer after so many tokens; empty if nothing does."""
        if not self.kept:
            return ""
        opening = self.session.opening
        return ResumeToken(opening.session_id, length, prefix_hash).sealed(opening.session_secret)


def taken_over() -> Aborted:
    return Aborted("the session goes on in another stream: it was resumed, or asked for again with its idempotency key")
