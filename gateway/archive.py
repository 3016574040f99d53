"""Sessions that were begun before, here or at another gateway: found by whoever may, and taken over."""

from __future__ import annotations

from collections.abc import Callable

from gateway.callers import Caller
from gateway.keeping import Keeper
from gateway.tokens import Claim, ResumeToken, answer_hash
from paceline.cluster.journal import Entry, Journal, JournalAway
from paceline.errors import DataLoss, PermissionDenied, UnknownSession
from paceline.messages import JournaledSession
from paceline.speculation.fields import require


class Archive:
    """The journal as one gateway uses it."""

    def __init__(self, journal: Journal, on_taken: Callable[[str], None]) -> None:
        """``on_taken`` hears which session goes on in another stream from now on."""
        self._journal, self._on_taken = journal, on_taken

    async def begin(self, session: JournaledSession, idempotency_key: str) -> Keeper:
        """A new session; or the one that its idempotency key stands for already. While the journal is away it is not
        kept."""
        try:
            kept = await self._journal.create(session, idempotency_key)
            known = None if kept.new else await self._journal.read(kept.session_id)
        except JournalAway:
            return Keeper(self._journal, session, session.opening.epoch, kept=False)
        if known is None:
            return Keeper(self._journal, session, session.opening.epoch)
        same = known.session.request_digest == session.request_digest
        require(same, "idempotency_key", idempotency_key, "the same request as before, or another key")
        return await self.take(known)

    async def find(self, resume_token: str, caller: Caller) -> tuple[ResumeToken, Entry]:
        """The session of a token that is shown by its own caller, and what the token says; raises ``DataLoss`` where
        the journal says otherwise."""
        claim = Claim.parse(resume_token)
        entry = await self._journal.read(claim.token.session_id)
        if entry is None:
            raise UnknownSession("resume_token: its session is not known, or was forgotten by now")
        if entry.session.caller != caller.name:
            raise PermissionDenied("resume_token: its session is another caller's", "resume_token")
        token = claim.check(entry.session.opening.session_secret)
        _check_agreement(token, entry)
        return token, entry

    async def take(self, entry: Entry) -> Keeper:
        """Makes a session this gateway's, and ends every other stream of it; of one that has ended there are none."""
        taken: Entry | None = entry
        if not entry.ended:
            session_id = entry.session.opening.session_id
            taken = await self._journal.take(session_id)
            self._on_taken(session_id)
        if taken is None:
            raise UnknownSession("resume_token: its session was forgotten just now")
        return Keeper(self._journal, taken.session, taken.epoch, taken.events)


def _check_agreement(token: ResumeToken, entry: Entry) -> None:
    committed = [id_ for event in entry.events if event.committed for id_ in event.committed.token_ids]
    if token.length > len(committed):
        raise DataLoss(f"resume_token: stands for {token.length} tokens, and {len(committed)} are known")
    if token.prefix_hash != answer_hash(entry.session.opening.noise_key, committed[: token.length]):
        raise DataLoss(f"resume_token: its {token.length} tokens are not those that were committed")
