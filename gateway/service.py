"""The gateway's logic, without transport: from a request to a stream of chunks."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import aclosing, asynccontextmanager

from gateway.admission import Admission, Bounds, Demand, Place, enter
from gateway.callers import ANONYMOUS, Caller
from gateway.coordinator import Coordinator
from gateway.fleet import Fleet
from gateway.keeping import Keeper, taken_over
from gateway.mailbox import PATIENCE_SECONDS, Mailbox
from gateway.opening import encode_prediction, open_session
from gateway.running import Running
from gateway.seats import Seats
from gateway.telling import Teller
from gateway.text import TextCodec
from gateway.tokens import Claim, ResumeToken, answer_hash
from gateway.workers import DrafterWorker, VerifierWorker
from paceline import wire
from paceline.cluster.journal import Entry, Journal, JournalAway, MemoryJournal
from paceline.errors import NotFound, PermissionDenied
from paceline.messages import Chunk, Generate, JournaledSession, ModelInfo, OpenSession, Worker
from paceline.speculation.fields import require

Publish = Callable[[str, OpenSession, Sequence[int]], None]
"""Takes what a session said once it is over, with the hash of the tokenizer that it was said in; never waits."""
FAILOVER_SECONDS = 10.0


class Gateway:
    """Admits requests, routes them to workers, and brings each to its end whatever becomes of those."""

    def __init__(
        self,
        verifiers: Sequence[VerifierWorker],
        drafters: Sequence[DrafterWorker],
        bounds: Bounds | None = None,
        sessions_per_verifier: int = 0,
        publish: Publish | None = None,
        journal: Journal | None = None,
        failover_seconds: float = FAILOVER_SECONDS,
    ) -> None:
        """``sessions_per_verifier``: that run at a time, at most; 0: as many as it says that it takes. ``journal``:
        None keeps sessions in memory. ``failover_seconds``: how long one waits for a verifier if there is none."""
        self.fleet = Fleet(verifiers, drafters, sessions_per_verifier)
        self.verifiers, self.drafters = self.fleet.verifiers, self.fleet.drafters
        self.admission = Admission(bounds or Bounds(), self.fleet.slots)
        self.fleet.watch(self._fleet_changed)
        self.journal = journal or MemoryJournal()
        self._publish = publish
        self._seats = Seats(self.fleet, Coordinator(drafters), failover_seconds)
        self._running: dict[str, Running] = {}

    # -- what clients ask ----------------------------------------------------------------------------------------------

    async def generate(self, request: Generate, caller: Caller = ANONYMOUS) -> AsyncGenerator[Chunk, None]:
        """Streams the answer; leaving the iteration early ends the session everywhere.

        Raises ``ResourceExhausted`` at once, with a fair time to come back, where it would have to wait too long.
        """
        started = time.monotonic()
        model, codec = await self.fleet.model(request.model)
        demand = Demand(model.name, caller, caller.priority_for(request.priority))
        self.admission.check(demand)  # rather before a long prompt is tokenized than after it
        session = await self._session(request, caller, model, codec)
        demand = demand.of_tokens(session.opening.prompt_length, request.sampling.max_tokens, model.max_context)
        async with enter(self.admission, demand) as place:
            known = await self._keep(session, request.idempotency_key)
            if isinstance(known, Entry):
                beginning = _beginning(known.session)
                running = self._take_up(Keeper.of(self.journal, known), codec, place, started)
                chunks = running.resume(known.events, beginning)
            else:
                running = self._take_up(known, codec, place, started)
                chunks = running.stream()
            async with self._run(running, codec, chunks, place) as told:
                async for chunk in told:
                    yield chunk

    async def resume(self, resume_token: str, caller: Caller = ANONYMOUS) -> AsyncGenerator[Chunk, None]:
        """Streams the rest of an answer, after what the client has; a stream that it still has elsewhere ends.

        Raises ``NotFound`` for a session that is unknown or forgotten, ``PermissionDenied`` for somebody else's,
        ``DataLoss`` where the token disagrees with the journal.
        """
        started, claim = time.monotonic(), Claim.parse(resume_token)
        entry = await self.journal.read(claim.token.session_id)
        if entry is None:
            raise NotFound("resume_token: its session is not known, or was forgotten by now")
        session = entry.session
        if session.caller != caller.name:
            raise PermissionDenied("resume_token: its session is another caller's")
        token = claim.check(session.opening.session_secret)
        model, codec = await self.fleet.model(session.opening.model)
        demand = Demand(model.name, caller, session.opening.priority)
        demand = demand.of_tokens(session.opening.prompt_length, session.opening.sampling.max_tokens, model.max_context)
        async with enter(self.admission, demand) as place:
            if not entry.ended:
                entry = await self._take_over(token.session_id)
            running = self._take_up(Keeper.of(self.journal, entry), codec, place, started)
            async with self._run(running, codec, running.resume(entry.events, token), place) as told:
                async for chunk in told:
                    yield chunk

    def abort(self, session_id: str) -> None:
        """Ends a running session; its stream ends with finish reason abort."""
        running = self._running.get(session_id)
        if running is None:
            raise NotFound(f"session {session_id} is not running here")
        running.abort()

    def models(self) -> list[ModelInfo]:
        """Each model once."""
        return self.fleet.models()

    def workers(self) -> list[Worker]:
        """All workers, reachable or not."""
        return self.fleet.rows()

    # -- from a request to a session in the journal --------------------------------------------------------------------

    async def _session(self, request: Generate, caller: Caller, model: ModelInfo, codec: TextCodec) -> JournaledSession:
        names = self.fleet.drafter_names(model.name)
        seed = request.seed if request.seed is not None else secrets.randbits(63)
        opening = await open_session(request, caller, model, codec, names, seed)
        prediction = await encode_prediction(request.speculation.prediction, model, codec)
        digest = wire.request_digest(request)
        return JournaledSession(opening, caller.name, seed, request.stop, prediction, digest)

    async def _keep(self, session: JournaledSession, idempotency_key: str) -> Keeper | Entry:
        """The session in the journal; the one that its idempotency key stands for, taken over, if there is one."""
        try:
            kept = await self.journal.create(session, idempotency_key)
        except JournalAway:
            return Keeper(self.journal, session, session.opening.epoch, kept=False)
        if kept.new:
            return Keeper(self.journal, session, session.opening.epoch)
        known = await self.journal.read(kept.session_id)
        if known is None:
            raise NotFound("idempotency_key: its session was forgotten just now")
        same = known.session.request_digest == session.request_digest
        require(same, "idempotency_key", idempotency_key, "the same request as before, or another key")
        return known if known.ended else await self._take_over(kept.session_id)

    async def _take_over(self, session_id: str) -> Entry:
        entry = await self.journal.take(session_id)
        if entry is None:
            raise NotFound("resume_token: its session was forgotten just now")
        if session_id in self._running:
            self._running[session_id].interrupt(taken_over())
        return entry

    # -- a session's life ----------------------------------------------------------------------------------------------

    def _take_up(self, keeper: Keeper, codec: TextCodec, place: Place, started: float) -> Running:
        reader = asyncio.current_task()

        def mailbox(tokens: int) -> Mailbox:
            return Mailbox(lambda added: self.admission.leave(place, tokens + added), reader, PATIENCE_SECONDS)

        teller = Teller(keeper.session, codec, started, keeper.token)
        return Running(keeper, teller, self._seats, mailbox, self.fleet.description)

    @asynccontextmanager
    async def _run(
        self, running: Running, codec: TextCodec, chunks: AsyncGenerator[Chunk, None], place: Place
    ) -> AsyncIterator[AsyncGenerator[Chunk, None]]:
        """The session runs inside, and nothing of it is left after."""
        self._running[running.opening.session_id] = running
        try:
            async with aclosing(chunks):
                yield chunks
        except Exception:
            running.failed = True
            raise
        finally:
            self._close(running, codec.hash)
            self.admission.leave(place, len(running.committed))

    def _close(self, running: Running, tokenizer_hash: str) -> None:
        running.close()
        if self._running.get(running.opening.session_id) is running:
            del self._running[running.opening.session_id]
        if self._publish and not running.failed:
            self._publish(tokenizer_hash, running.opening, running.teller.said)

    def _fleet_changed(self) -> None:
        for model in self.models():
            self.admission.fill(model.name)


def _beginning(session: JournaledSession) -> ResumeToken:
    """Where somebody stands who has heard nothing."""
    return ResumeToken(session.opening.session_id, 0, answer_hash(session.opening.noise_key, ()))
