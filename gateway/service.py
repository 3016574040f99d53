"""The gateway's logic, without transport: from a request to a stream of chunks."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace

from gateway.access import Access, opened
from gateway.admission import Admission, Bounds, Demand, Place, enter
from gateway.archive import Archive
from gateway.callers import ANONYMOUS, Caller
from gateway.coordinator import Coordinator
from gateway.counts import Counts
from gateway.door import Door
from gateway.fleet import Fleet
from gateway.keeping import Keeper, taken_over
from gateway.mailbox import PATIENCE_SECONDS, Mailbox
from gateway.opening import encode_prediction, open_session
from gateway.running import Running
from gateway.seats import Seats
from gateway.tally import Tally, counted
from gateway.telling import Teller
from gateway.text import TextCodec
from gateway.timelines import Laps, Timelines
from gateway.timings import Timings
from gateway.tokens import ResumeToken
from gateway.tracing import Trace, traced
from gateway.workers import DrafterWorker, VerifierWorker
from paceline import wire
from paceline.cluster.journal import Journal, MemoryJournal
from paceline.errors import Draining, NotFound
from paceline.logs import bind
from paceline.messages import Chunk, Generate, JournaledSession, ModelInfo, OpenSession, Worker
from paceline.telemetry import OFF, Telemetry

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
        telemetry: Telemetry = OFF,
    ) -> None:
        """``sessions_per_verifier``: that run at a time, at most; 0: as many as it says that it takes. ``journal``:
        None keeps sessions in memory. ``failover_seconds``: how long one waits for a verifier if there is none."""
        self.fleet = Fleet(verifiers, drafters, sessions_per_verifier)
        self.verifiers, self.drafters = self.fleet.verifiers, self.fleet.drafters
        self.admission = Admission(bounds or Bounds(), self.fleet.slots)
        self.fleet.watch(self._fleet_changed)
        self.journal = journal or MemoryJournal()
        self._archive = Archive(self.journal, self._taken)
        self._publish, self.telemetry, self.access = publish, telemetry, Access()
        self.counts = Counts(Timings(telemetry.meter), prices=self.fleet.price_per_hour)
        self._seats = Seats(self.fleet, Coordinator(self.drafters), failover_seconds)
        self._running: dict[str, Running] = {}
        self._timelines = Timelines()
        self._door = Door()

    # -- what clients ask ----------------------------------------------------------------------------------------------

    async def generate(self, request: Generate, caller: Caller = ANONYMOUS) -> AsyncGenerator[Chunk, None]:
        """Streams the answer; leaving the iteration early ends the session everywhere.

        Raises ``ResourceExhausted`` at once, with a fair time to come back, where it would have to wait too long, and
        ``Draining`` once the gateway is about to stop.
        """
        tally = Tally(self.counts, chat=request.chat is not None, first_choice=request.choice_index == 0)
        tracer = self.telemetry.tracer
        with counted(tally, "generate"), self._door.enter(), traced(tracer, "generate", Laps(), request) as trace:
            model, codec = await self.fleet.model(request.model)
            bind(model=model.name)
            tally.model = model.name
            demand = Demand(model.name, caller, caller.priority_for(request.priority))
            self.admission.check(demand)  # rather before a long prompt is tokenized than after it
            trace.phase("tokenize")
            session = await self._session(request, caller, model, codec, trace)
            tally.prompt_tokens = session.opening.prompt_length
            demand = demand.of_tokens(tally.prompt_tokens, request.sampling.max_tokens, model.max_context)
            trace.phase("queue", tally.prompt_tokens)
            async with enter(self.admission, demand) as place:
                trace.phase()
                keeper = await self._archive.begin(session, request.idempotency_key)
                token = ResumeToken.beginning(keeper.session.opening)
                async with self._running_session(keeper, codec, place, trace, tally) as running:
                    async for chunk in running.stream(token):
                        trace.told(chunk)
                        tally.told(chunk)
                        yield chunk

    async def find(self, resume_token: str, caller: Caller = ANONYMOUS) -> JournaledSession:
        """The session that a token stands for, left alone; raises as ``resume`` does."""
        return (await self._archive.find(resume_token, caller))[1].session

    async def resume(
        self, resume_token: str, caller: Caller = ANONYMOUS, *, recall: bool = False
    ) -> AsyncGenerator[Chunk, None]:
        """Streams the rest of an answer, after what the client has; a stream that it still has elsewhere ends.
        ``recall``: the first chunk tells once more what the client has.

        Raises ``UnknownSession`` for one that is not known or forgotten, ``PermissionDenied`` for somebody else's,
        ``DataLoss`` where the token disagrees with the journal.
        """
        tally = Tally(self.counts)
        with counted(tally, "resume"), self._door.enter():
            laps = Laps()
            token, entry = await self._archive.find(resume_token, caller)
            opening = entry.session.opening
            with traced(self.telemetry.tracer, "resume", laps, before=opening.traceparent) as trace:
                model, codec = await self.fleet.model(opening.model)
                bind(model=model.name)
                tally.model = model.name
                demand = Demand(model.name, caller, opening.priority)
                demand = demand.of_tokens(opening.prompt_length, opening.sampling.max_tokens, model.max_context)
                trace.phase("queue")
                async with enter(self.admission, demand) as place:
                    trace.phase()
                    keeper = await self._archive.take(entry)
                    async with self._running_session(keeper, codec, place, trace, tally) as running:
                        async for chunk in running.stream(token, recall=recall):
                            trace.told(chunk)
                            tally.told(chunk)
                            yield chunk

    def abort(self, session_id: str, caller: Caller = ANONYMOUS) -> None:
        """Ends a caller's running session; its stream ends with finish reason abort."""
        running = self._running.get(session_id)
        if running is None or running.keeper.session.caller != caller.name:
            raise NotFound(f"session {session_id} is not running here")
        running.abort()

    async def timeline(self, trace_id: str, caller: Caller = ANONYMOUS) -> bytes:
        """JSON of what happened in a caller's answers of this trace; raises ``UnknownTimeline``."""
        return await self._timelines.find(trace_id, caller.name)

    def models(self) -> list[ModelInfo]:
        """Each model once."""
        return self.fleet.models()

    def workers(self) -> list[Worker]:
        """All workers that are known, reachable or not."""
        return self.fleet.rows()

    # -- whether it serves ---------------------------------------------------------------------------------------------

    @property
    def ailment(self) -> str | None:
        """Why nobody is served at the moment."""
        if self._door.closed:
            return "draining"
        return None if any(worker.healthy for worker in self.verifiers) else "no verifier is reachable"

    @property
    def busy(self) -> bool:
        """Whether a request is being answered."""
        return self._door.inside > 0

    def drain(self) -> None:
        """Takes no more requests; those that it has go on."""
        self._door.close()

    def give_up(self) -> None:
        """Has the generations that still run raise ``Draining``, after what has come of them."""
        for running in self._running.values():
            running.interrupt(Draining("the gateway stops"))

    # -- a session's life ----------------------------------------------------------------------------------------------

    async def _session(
        self, request: Generate, caller: Caller, model: ModelInfo, codec: TextCodec, trace: Trace
    ) -> JournaledSession:
        names = self.fleet.drafter_names(model.name)
        seed = request.seed if request.seed is not None else secrets.randbits(63)
        opening = await open_session(request, caller, model, codec, names, seed)
        prediction = await encode_prediction(request.speculation.prediction, model, codec)
        digest = wire.request_digest(request)
        opening = replace(opening, traceparent=trace.traceparent)
        return JournaledSession(opening, caller.name, seed, request.stop, prediction, digest)

    @asynccontextmanager
    async def _running_session(
        self, keeper: Keeper, codec: TextCodec, place: Place, trace: Trace, tally: Tally
    ) -> AsyncIterator[Running]:
        """The session runs inside, and nothing of it is left after."""
        reader = asyncio.current_task()
        tally.admitted(place.waited_seconds)

        def mailbox(tokens: int) -> Mailbox:
            return Mailbox(
                lambda added: self.admission.leave(place, tokens + added), reader, PATIENCE_SECONDS, tally.heard
            )

        trace.opened(keeper.session.opening)
        opening = replace(keeper.session.opening, traceparent=trace.traceparent)
        keeper.session = replace(keeper.session, opening=opening)  # it was traced elsewhere if it began elsewhere
        opened(opening, codec)
        teller = Teller(keeper.session, codec, trace.laps.started, keeper.token)
        notes = self._timelines.begin(keeper.session, codec, trace.laps)
        running = Running(keeper, teller, self._seats, mailbox, self.fleet.description, tally, notes, trace)
        self._running[running.session_id] = running
        try:
            yield running
        except Exception as error:
            running.failed = True
            running.close(error)
            raise
        finally:
            running.close()
            if notes is not None:
                notes.close(failed=running.failed)
            tally.closed(stopped=teller.stopped, kept=keeper.kept)
            if self._running.get(running.session_id) is running:
                del self._running[running.session_id]
            if self._publish and not running.failed:
                self._publish(codec.hash, running.opening, running.teller.said)
            self.admission.leave(place, len(running.committed))

    def _taken(self, session_id: str) -> None:
        if session_id in self._running:
            self._running[session_id].interrupt(taken_over())

    def _fleet_changed(self) -> None:
        for model in self.models():
            self.admission.fill(model.name)
