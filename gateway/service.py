"""The gateway's logic, without transport: from a request to a stream of chunks."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import AsyncGenerator, Callable, Sequence

from gateway.admission import Admission, Bounds, Demand, enter
from gateway.callers import ANONYMOUS, Caller
from gateway.coordinator import Coordinator
from gateway.fleet import Fleet
from gateway.mailbox import PATIENCE_SECONDS, Mailbox
from gateway.opening import encode_prediction, open_session
from gateway.running import Running
from gateway.workers import DrafterWorker, VerifierWorker
from paceline.errors import NotFound, UnsupportedParameter
from paceline.messages import AbortSession, Chunk, Generate, ModelInfo, OpenSession, Worker

Publish = Callable[[str, OpenSession, Sequence[int]], None]
"""Takes what a session said once it is over, with the hash of the tokenizer that it was said in; never waits."""


class Gateway:
    """Admits requests and routes them to the workers of its fleet."""

    def __init__(
        self,
        verifiers: Sequence[VerifierWorker],
        drafters: Sequence[DrafterWorker],
        bounds: Bounds | None = None,
        sessions_per_verifier: int = 0,
        publish: Publish | None = None,
    ) -> None:
        """``sessions_per_verifier``: that run at a time, at most; 0: as many as it says that it takes."""
        self.fleet = Fleet(verifiers, drafters, sessions_per_verifier)
        self.verifiers, self.drafters = self.fleet.verifiers, self.fleet.drafters
        self.admission = Admission(bounds or Bounds(), self.fleet.slots)
        self.fleet.watch(self._fleet_changed)
        self._publish = publish
        self._coordinator = Coordinator(self.drafters)
        self._running: dict[str, Running] = {}

    # -- what clients ask ----------------------------------------------------------------------------------------------

    async def generate(self, request: Generate, caller: Caller = ANONYMOUS) -> AsyncGenerator[Chunk, None]:
        """Streams the answer; leaving the iteration early ends the session everywhere.

        Raises ``ResourceExhausted`` at once, with a fair time to come back, where it would have to wait too long.
        """
        started = time.monotonic()
        if request.idempotency_key:
            raise UnsupportedParameter("idempotency_key", "set", "empty (not supported yet)")
        model, codec = await self.fleet.model(request.model)
        demand = Demand(model.name, caller, caller.priority_for(request.priority))
        self.admission.check(demand)  # rather before a long prompt is tokenized than after it
        names = self.fleet.drafter_names(model.name)
        seed = request.seed if request.seed is not None else secrets.randbits(63)
        opening = await open_session(request, caller, model, codec, names, seed)
        prediction = await encode_prediction(request.speculation.prediction, model, codec)
        demand = demand.of_tokens(opening.prompt_length, request.sampling.max_tokens, model.max_context)
        async with enter(self.admission, demand) as place:
            reader = asyncio.current_task()
            events = Mailbox(lambda tokens: self.admission.leave(place, tokens), reader, PATIENCE_SECONDS)
            running = self._open(opening, events, prediction, seed, request.stop, started)
            try:
                async for chunk in running.stream():
                    yield chunk
            except Exception:
                running.failed = True
                raise
            finally:
                self._close(running)
                self.admission.leave(place, events.tokens)

    def abort(self, session_id: str) -> None:
        """Ends a running session; its stream ends with finish reason abort."""
        running = self._running.get(session_id)
        if running is None:
            raise NotFound(f"session {session_id} is not running here")
        running.verifier.send(AbortSession(session_id, running.opening.epoch))

    def models(self) -> list[ModelInfo]:
        """Each model once."""
        return self.fleet.models()

    def workers(self) -> list[Worker]:
        """All workers that are known, reachable or not."""
        return self.fleet.rows()

    # -- a session's life ----------------------------------------------------------------------------------------------

    def _open(
        self,
        opening: OpenSession,
        events: Mailbox,
        prediction: tuple[int, ...],
        seed: int,
        stop: Sequence[str],
        started: float,
    ) -> Running:
        verifier = self.fleet.route(opening)
        verifier.open(opening, events)
        assert verifier.description is not None, "a healthy verifier has described itself"
        crew = self._coordinator.crew(opening, verifier, verifier.description.model, prediction)
        running = self._running[opening.session_id] = Running(opening, verifier, events, crew, seed, stop, started)
        return running

    def _close(self, running: Running) -> None:
        running.crew.close()
        running.events.close()
        session_id = running.opening.session_id
        running.verifier.forget(session_id)
        if running.verifier.healthy:
            running.verifier.send(AbortSession(session_id, running.opening.epoch))
        self._running.pop(session_id, None)
        if self._publish and not running.failed:
            self._publish(running.tokenizer_hash, running.opening, running.said)

    def _fleet_changed(self) -> None:
        for model in self.models():
            self.admission.fill(model.name)
