"""The gateway's logic, without transport: from a request to a stream of chunks."""

from __future__ import annotations

import asyncio
import secrets
import time
import uuid
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import replace

from gateway.coordinator import Coordinator
from gateway.running import Running
from gateway.workers import DrafterWorker, VerifierWorker
from paceline.errors import (
    NotFound,
    Unavailable,
)
from paceline.messages import (
    AbortSession,
    Chunk,
    Generate,
    ModelInfo,
    OpenSession,
    Worker,
)
from paceline.speculation.fields import require
from paceline.speculation.noise import noise_key

START_TIMEOUT_SECONDS = 5.0
"""How long a request waits for a verifier to be there."""

MAX_CHARACTERS_PER_TOKEN = 64
"""Longer texts than this times the context are refused before they are tokenized."""

Publish = Callable[[str, OpenSession, Sequence[int]], None]
"""Takes what a session said once it is over, with the hash of the tokenizer that it was said in; never waits."""


class Gateway:
    """Routes requests to workers of a fixed topology."""

    def __init__(
        self,
        verifiers: Sequence[VerifierWorker],
        drafters: Sequence[DrafterWorker],
        publish: Publish | None = None,
    ) -> None:
        self.verifiers, self.drafters = list(verifiers), list(drafters)
        self._publish = publish
        self._coordinator = Coordinator(drafters)
        self._running: dict[str, Running] = {}

    # -- what clients ask ----------------------------------------------------------------------------------------------

    async def generate(self, request: Generate) -> AsyncIterator[Chunk]:
        """Streams the answer; leaving the iteration early ends the session everywhere."""
        started = time.monotonic()
        verifier = await self._route(request.model)
        seed = request.seed if request.seed is not None else secrets.randbits(63)
        opening = self._opening(request, verifier, seed)
        prediction = self._prediction(request.speculation.prediction, verifier)
        events = verifier.open(opening)
        crew = self._coordinator.crew(opening, verifier, _model_of(verifier), prediction)
        running = Running(opening, verifier, events, crew, seed, request.stop, started)
        self._running[opening.session_id] = running
        try:
            async for chunk in running.stream():
                yield chunk
        except Exception:
            running.failed = True
            raise
        finally:
            self._close(running)

    def abort(self, session_id: str) -> None:
        """Ends a running session; its stream ends with finish reason abort."""
        running = self._running.get(session_id)
        if running is None:
            raise NotFound(f"session {session_id} is not running here")
        running.verifier.send(AbortSession(session_id, running.opening.epoch))

    def models(self) -> list[ModelInfo]:
        """Each model once."""
        known = [worker.description.model for worker in self.verifiers if worker.description]
        return list({model.name: model for model in known}.values())

    def workers(self) -> list[Worker]:
        """All workers of the topology, reachable or not."""
        return [_verifier_row(worker) for worker in self.verifiers] + [_drafter_row(worker) for worker in self.drafters]

    # -- opening -------------------------------------------------------------------------------------------------------

    async def _route(self, model: str) -> VerifierWorker:
        deadline = time.monotonic() + START_TIMEOUT_SECONDS
        while True:
            healthy = [worker for worker in self.verifiers if worker.healthy]
            fitting = [worker for worker in healthy if not model or _model_of(worker).name == model]
            if fitting:
                return min(fitting, key=lambda worker: worker.load)
            if healthy and all(worker.healthy for worker in self.verifiers):
                names = ", ".join(info.name for info in self.models())
                raise NotFound(f"model = {model!r}: expected one of {names}")
            if time.monotonic() > deadline:
                raise Unavailable("no verifier is reachable")
            await asyncio.sleep(0.05)

    def _opening(self, request: Generate, verifier: VerifierWorker, seed: int) -> OpenSession:
        model, prompt = _model_of(verifier), self._encode(request, verifier)
        require(bool(prompt), "prompt", request.text or "", "at least one token")
        require(len(prompt) < model.max_context, "prompt", f"{len(prompt)} tokens", f"fewer than {model.max_context}")
        largest = max(prompt)
        require(largest < model.vocabulary_size, "token_ids", largest, f"ids below {model.vocabulary_size}")
        self._check_names(request.speculation.drafters or ())
        return OpenSession(
            session_id=uuid.uuid4().hex,
            epoch=1,
            token_ids=tuple(prompt),
            prompt_length=len(prompt),
            sampling=request.sampling,
            speculation=replace(request.speculation, prediction=""),  # only drafters have a use for it
            noise_key=noise_key(seed, request.choice_index, prompt),
            session_secret=secrets.token_bytes(32),
            priority=request.priority,
            model=request.model,
        )

    def _encode(self, request: Generate, verifier: VerifierWorker) -> list[int]:
        assert verifier.codec is not None, "a healthy verifier has given us its tokenizer"
        if request.token_ids is not None:
            return list(request.token_ids)
        if request.chat is not None:
            require(bool(request.chat), "messages", [], "at least one message")
            return verifier.codec.encode_chat(request.chat)
        _check_length("prompt", request.text or "", verifier)
        return verifier.codec.encode(request.text or "")

    def _prediction(self, text: str, verifier: VerifierWorker) -> tuple[int, ...]:
        """The client's guess at the text, in tokens."""
        assert verifier.codec is not None, "a healthy verifier has given us its tokenizer"
        _check_length("prediction", text, verifier)
        return tuple(verifier.codec.encode(text)) if text else ()

    def _check_names(self, names: Sequence[str]) -> None:
        known = {worker.description.drafter_id for worker in self.drafters if worker.description}
        for name in names:
            require(
                name in known, "drafters", name, f"one of {', '.join(sorted(known)) or 'none, there are no drafters'}"
            )

    def _close(self, running: Running) -> None:
        running.crew.close()
        session_id = running.opening.session_id
        running.verifier.forget(session_id)
        if running.verifier.healthy:
            running.verifier.send(AbortSession(session_id, running.opening.epoch))
        self._running.pop(session_id, None)
        if self._publish and not running.failed:
            self._publish(_model_of(running.verifier).tokenizer_hash, running.opening, running.said)


def _check_length(field: str, text: str, verifier: VerifierWorker) -> None:
    most = MAX_CHARACTERS_PER_TOKEN * _model_of(verifier).max_context
    require(len(text) <= most, field, f"{len(text)} characters", f"at most {most}")


def _model_of(worker: VerifierWorker) -> ModelInfo:
    assert worker.description is not None, "a healthy verifier has described itself"
    return worker.description.model


def _verifier_row(worker: VerifierWorker) -> Worker:
    known = worker.description
    if known is None:
        return Worker(worker.address, "verifier", "", worker.address, worker.healthy, "", 0.0, 0, 0)
    return Worker(
        known.verifier_id, "verifier", "target", worker.address, worker.healthy, known.model.name, 0.0,
        worker.load, known.max_sessions,
    )  # fmt: skip


def _drafter_row(worker: DrafterWorker) -> Worker:
    known = worker.description
    if known is None:
        return Worker(worker.address, "drafter", "", worker.address, worker.healthy, "", 0.0, 0, 0)
    return Worker(
        known.drafter_id, "drafter", known.kind, worker.address, worker.healthy, known.model, known.price_per_hour,
        known.attached_sessions, known.max_sessions,
    )  # fmt: skip
