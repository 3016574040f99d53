"""One session that the gateway is streaming: from the events of its verifiers, one after the other, to chunks.

Whatever a verifier tells is kept in the journal before the client hears it. A verifier that is lost is followed by
another one, which goes on from the tokens that were committed; the client sees one text.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass, field, replace

from gateway.counts import Steps
from gateway.keeping import NOT_RESUMABLE, Keeper
from gateway.mailbox import Mailbox
from gateway.refusals import refusal
from gateway.seats import Seat, Seats
from gateway.stops import Token
from gateway.tally import Tally
from gateway.telling import Teller
from gateway.timelines import Notes
from gateway.tokens import ResumeToken
from gateway.tracing import OFF, Trace
from paceline.emulation import SYNTHETIC
from paceline.errors import DataLoss, PacelineError, TargetFailed, Unavailable
from paceline.logs import bind, get_logger
from paceline.messages import (
    Chunk,
    FinishReason,
    OpenSession,
    OverlapStatistics,
    Rejection,
    SessionEvent,
    Status,
    VerifierDescription,
)

logger = get_logger(__name__)

MOST_LOSSES = 3
"""Verifiers that a session may lose one after the other without a token between: it may be what they die of."""
REFUSED_SECONDS = 0.25
"""Before a session that was sent away asks again."""


class _Lost(Exception):
    """The verifier is gone."""


class _SentAway(_Lost):
    """The verifier is there, and has no room."""


@dataclass
class Running:
    """A session's stream to one client."""

    keeper: Keeper
    teller: Teller
    seats: Seats
    mailbox: Callable[[int], Mailbox]
    """Makes one for a session that has so many tokens."""
    describe: Callable[[str], VerifierDescription | None]
    """Of the verifiers of a model, while the session is on none."""
    tally: Tally
    notes: Notes | None = None
    """Its timeline, if anybody watches."""
    trace: Trace = OFF
    committed: list[int] = field(default_factory=list)
    seat: Seat | None = None
    aborted: bool = False
    failed: bool = False
    _interruption: PacelineError | None = None
    _losses: int = 0
    _overlap: OverlapStatistics = field(default_factory=OverlapStatistics)
    """On this verifier, as it was told last, and on those before."""
    _overlap_before: OverlapStatistics = field(default_factory=OverlapStatistics)
    _steps: Steps = field(default_factory=Steps)
    """All those of the answer whose tokens were kept, wherever they were made."""

    @property
    def session_id(self) -> str:
        return self.opening.session_id

    @property
    def opening(self) -> OpenSession:
        """As it was opened first."""
        return self.keeper.session.opening

    # -- what others ask -----------------------------------------------------------------------------------------------

    def abort(self) -> None:
        """Ends the session; its stream ends with finish reason abort."""
        self.aborted = True
        if self.seat is not None:
            self.seat.abort()

    def interrupt(self, error: PacelineError) -> None:
        """Ends the stream with an error, not the session: it may be resumed."""
        self._interruption = error
        if self.seat is not None:
            self.seat.events.fail(error)

    def close(self, error: Exception | None = None) -> None:
        """Nobody listens any more; ``error``: since it has failed."""
        if self.seat is not None:
            self.seat.leave(error)
            self.seat = None

    # -- chunks --------------------------------------------------------------------------------------------------------

    async def stream(self, token: ResumeToken, *, recall: bool = False) -> AsyncGenerator[Chunk, None]:
        """Chunks after what the client has, until the text ends, by the verifier's word or a stop string: the first
        one, which comes when a verifier has taken the session on, has the seed, and, to ``recall`` it, what the client
        has; the last one has the completion."""
        past = self.keeper.past
        had, tokens = self.teller.resume(past, token.length)
        greeting, told = had if recall else self.teller.greeting(), SessionEvent(self.session_id, self.keeper.epoch)
        for event in past:
            self._commit(event)
        self.tally.recalled(len(self.committed) - token.length)
        if self.teller.stopped or (past and past[-1].last):
            yield greeting
            yield self._told_before(past[-1], tokens)
            return
        await self._sit()
        event = await self._next()
        yield greeting
        if tokens:
            yield self.teller.chunk(told, tokens)
        async for chunk in self._follow(event):
            yield chunk

    async def _follow(self, event: SessionEvent) -> AsyncGenerator[Chunk, None]:
        while True:
            tokens = self.teller.hear(event.committed)
            if self.teller.stopped:
                yield self._last_chunk(await self._stopped(event), tokens)
                return
            if event.last:
                yield self._last_chunk(event, tokens)
                return
            if tokens or event.events:
                yield self.teller.chunk(event, tokens)
            event = await self._next()

    def _told_before(self, last: SessionEvent, tokens: list[Token]) -> Chunk:
        """The last chunk of an answer that had ended before it was resumed; what failed beyond a stop string takes
        nothing away."""
        if last.finish_reason is FinishReason.ERROR and not self.teller.stopped:
            raise TargetFailed(last.detail)
        self._overlap = last.overlap or self._overlap
        return self._ending(replace(last, committed=None), tokens)

    def _last_chunk(self, event: SessionEvent, tokens: list[Token]) -> Chunk:
        return self._ending(event, tokens if self.teller.stopped else self.teller.flush(tokens))

    def _ending(self, event: SessionEvent, tokens: list[Token]) -> Chunk:
        description = self.seat.verifier.description if self.seat else self.describe(self.opening.model)
        says = exactness(description) if description else ""
        warning = "" if self.keeper.kept else NOT_RESUMABLE
        steps, told = self._steps, self._overlap_before.plus(self._overlap)
        overlap = replace(
            told,  # up to a quarter of a second of a verifier that was lost is missing from it, of tokens nothing is
            steps=steps.steps,
            verified_nodes=steps.verified,
            accepted_nodes=steps.accepted_nodes,
            acceptance_histogram=steps.histogram,
        )
        completion = self.teller.completion(event, len(tokens), overlap, says, warning)
        if self.notes is not None:
            self.notes.finish(completion)
        return self.teller.chunk(event, tokens, completion)

    # -- events --------------------------------------------------------------------------------------------------------

    async def _next(self) -> SessionEvent:
        """The next event, from wherever the session is then. Raises what ended the session, if it failed."""
        while not (self.aborted and self.seat is None):
            try:
                event = await self._receive()
            except _Lost as lost:
                await self._move(lost)
                continue
            if event.finish_reason is FinishReason.ERROR:
                raise TargetFailed(event.detail)
            return event
        return SessionEvent(self.session_id, self.keeper.epoch, finish_reason=FinishReason.ABORT)

    async def _receive(self) -> SessionEvent:
        """The next event from this verifier, kept in the journal; the crew has heard what it says of drafters."""
        seat = self.seat
        assert seat is not None, "events come from somewhere"
        try:
            event = await seat.events.get()
        except PacelineError as error:
            raise self._with_token(error) from None
        if event.epoch == 0:
            raise _Lost(event.detail)
        if event.rejected is not None:
            raise self._rejected(event.rejected)
        self._check_position(event)
        if self.notes is not None:
            event = self.notes.hear(event)
        await self.keeper.keep(event)
        self._commit(event)
        if event.overlap is not None:
            self.tally.counts.overlap(event.overlap, self._overlap)
            self._overlap = event.overlap
            (seat.crew.look if event.last else seat.crew.heard)(event.overlap)
        return event

    def _commit(self, event: SessionEvent) -> None:
        if event.committed is not None:
            self.committed += event.committed.token_ids
            self._losses = 0
            for step in event.committed.counted:
                self._steps.add(step)

    def _rejected(self, rejection: Rejection) -> Exception:
        if self.keeper.epoch > self.opening.epoch and rejection.status is Status.RESOURCE_EXHAUSTED:
            return _SentAway(rejection.detail)
        return refusal(rejection)

    def _check_position(self, event: SessionEvent) -> None:
        expected = self.opening.prompt_length + len(self.committed)
        if event.committed is not None and event.committed.position != expected:
            raise DataLoss(f"the verifier goes on at position {event.committed.position}: expected {expected}")

    async def _stopped(self, event: SessionEvent) -> SessionEvent:
        """The verifier's last event, after a stop string has ended the text."""
        with contextlib.suppress(PacelineError, _Lost):  # the text is whole, whatever becomes of what lies beyond it
            if not event.last and self.seat is not None:
                self.seat.abort()
            while not event.last:
                event = await self._receive()
        return event

    # -- going on elsewhere --------------------------------------------------------------------------------------------

    async def _move(self, why: _Lost) -> None:
        """The verifier is lost: the session goes on at another one, or at this one when it is back."""
        self._losses += 1
        if self._losses > MOST_LOSSES:
            lost = f"{self._losses} verifiers were lost one after the other without a token between them"
            raise self._with_token(Unavailable(f"{lost}: {why}"))
        self.tally.counts.failovers["no_room" if isinstance(why, _SentAway) else "lost"] += 1
        about = {"session": self.session_id, "epoch": self.keeper.epoch, "tokens": len(self.committed)}
        logger.warning("a session goes on elsewhere", reason=why, **about)
        if self.seat is not None:
            self.seat.leave(why, str(why))
            self.seat = None
        self._overlap_before, self._overlap = self._overlap_before.plus(self._overlap), OverlapStatistics()
        if isinstance(why, _SentAway):
            await asyncio.sleep(REFUSED_SECONDS)
        await self.keeper.next_epoch()
        await self._sit(f"{why}; ")

    async def _sit(self, because: str = "") -> None:
        """Opens the session with all its tokens on a verifier, unless it was aborted; waits for one if need be, but not
        for ever."""
        bind(epoch=self.keeper.epoch)
        opening = replace(self.opening, epoch=self.keeper.epoch, token_ids=(*self.opening.token_ids, *self.committed))
        events, prediction = self.mailbox(len(self.committed)), self.keeper.session.prediction
        if self.notes is not None:
            self.notes.asks()
        try:
            self.seat = await self.seats.find(opening, prediction, events, self._wanted, self.trace)
        except Unavailable as error:
            raise self._with_token(Unavailable(f"{because}{error}")) from error
        if self._interruption is not None:
            raise self._with_token(self._interruption)

    def _wanted(self) -> bool:
        return not self.aborted and self._interruption is None

    def _with_token(self, error: PacelineError) -> PacelineError:
        """The error, and with it what resumes the session if somebody may."""
        if isinstance(error, Unavailable) and not error.resume_token:
            error.resume_token = self.teller.greeting().resume_token
        return error


def exactness(description: VerifierDescription) -> str:
    """What the text may be relied on for, given how the target is computed."""
    fingerprint = description.fingerprint
    if SYNTHETIC in fingerprint.numerics:
        return f"{SYNTHETIC}: texts are not the target's"
    deterministic = fingerprint.numerics == "deterministic"
    equal = "bitwise equal texts" if deterministic else f"equal texts up to near-ties of {fingerprint.dtype} logits"
    return f"every token an exact draw; {equal}"
