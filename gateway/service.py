"""The gateway's logic, without transport: from a request to a stream of chunks."""

from __future__ import annotations

import asyncio
import secrets
import time
import uuid
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from dataclasses import dataclass, replace

from gateway.coordinator import Coordinator, Crew
from gateway.text import Detokenizer
from gateway.workers import DrafterWorker, VerifierWorker
from paceline.emulation import SYNTHETIC
from paceline.errors import (
    DataLoss,
    FailedPrecondition,
    NotFound,
    PacelineError,
    PermissionDenied,
    ResourceExhausted,
    TargetFailed,
    Unavailable,
)
from paceline.messages import (
    AbortSession,
    Chunk,
    Completion,
    FinishReason,
    Generate,
    ModelInfo,
    OpenSession,
    OverlapStatistics,
    Rejection,
    SessionEvent,
    Status,
    Usage,
    VerifierDescription,
    Worker,
)
from paceline.speculation.fields import FieldError, require
from paceline.speculation.noise import noise_key

START_TIMEOUT_SECONDS = 5.0
"""How long a request waits for a verifier to be there."""

MAX_CHARACTERS_PER_TOKEN = 64
"""Longer texts than this times the context are refused before they are tokenized."""

_REFUSALS: dict[Status, type[PacelineError]] = {
    Status.NOT_FOUND: NotFound,
    Status.PERMISSION_DENIED: PermissionDenied,
    Status.RESOURCE_EXHAUSTED: ResourceExhausted,
    Status.FAILED_PRECONDITION: FailedPrecondition,
    Status.DATA_LOSS: DataLoss,
    Status.UNAVAILABLE: Unavailable,
}


class RefusedRequest(FieldError, PacelineError):
    """A verifier refused a request for one of its fields; the message is the verifier's."""

    def __init__(self, detail: str) -> None:
        ValueError.__init__(self, detail)
        self.field, self.value, self.expected = "request", "", detail


@dataclass
class Running:
    """A session that the gateway is streaming."""

    opening: OpenSession
    verifier: VerifierWorker
    events: asyncio.Queue[SessionEvent]
    crew: Crew
    started: float
    first_token_at: float = 0.0
    last_token_at: float = 0.0
    emitted: int = 0


class Gateway:
    """Routes requests to workers of a fixed topology."""

    def __init__(self, verifiers: Sequence[VerifierWorker], drafters: Sequence[DrafterWorker]) -> None:
        self.verifiers, self.drafters = list(verifiers), list(drafters)
        self._coordinator = Coordinator(drafters)
        self._running: dict[str, Running] = {}

    # -- what clients ask ----------------------------------------------------------------------------------------------

    async def generate(self, request: Generate) -> AsyncGenerator[Chunk, None]:
        """Streams the answer; leaving the iteration early ends the session everywhere."""
        started = time.monotonic()
        verifier = await self._route(request.model)
        seed = request.seed if request.seed is not None else secrets.randbits(63)
        opening = self._opening(request, verifier, seed)
        prediction = self._prediction(request.speculation.prediction, verifier)
        events = verifier.open(opening)
        crew = self._coordinator.crew(opening, verifier, _model_of(verifier), prediction)
        running = Running(opening, verifier, events, crew, started)
        self._running[opening.session_id] = running
        try:
            yield Chunk(opening.session_id, seed=seed)
            async for chunk in self._stream(running):
                yield chunk
        finally:
            self._close(running)

    def abort(self, session_id: str) -> None:
        """Ends a running session; its stream ends with finish reason abort."""
        running = self._running.get(session_id)
        if running is None:
            raise NotFound(f"session {session_id} is not running here")
        running.verifier.send(AbortSession(session_id, running.opening.epoch))
        event = SessionEvent(session_id, running.opening.epoch, finish_reason=FinishReason.ABORT)
        running.events.put_nowait(event)

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

    # -- streaming -----------------------------------------------------------------------------------------------------

    async def _stream(self, running: Running) -> AsyncIterator[Chunk]:
        assert running.verifier.codec is not None, "a healthy verifier has given us its tokenizer"
        detokenizer = running.verifier.codec.detokenizer()
        while True:
            event = await running.events.get()
            if event.rejected is not None:
                raise _refusal(event.rejected)
            if event.epoch == 0:
                raise Unavailable(event.detail)
            if event.finish_reason is FinishReason.ERROR:
                raise TargetFailed(event.detail)
            if event.overlap is not None:
                (running.crew.look if event.last else running.crew.heard)(event.overlap)
            chunk = self._chunk(running, event, detokenizer)
            if chunk is not None:
                yield chunk
            if event.last:
                return

    def _chunk(self, running: Running, event: SessionEvent, detokenizer: Detokenizer) -> Chunk | None:
        tokens = event.committed.token_ids if event.committed else ()
        if tokens:
            running.last_token_at = time.monotonic()
            running.first_token_at = running.first_token_at or running.last_token_at
        if not tokens and not event.last:
            return None
        position, running.emitted = running.emitted, running.emitted + len(tokens)
        text = detokenizer.add(tokens)
        if not event.last:
            return Chunk(running.opening.session_id, text, tokens, position)
        return Chunk(
            running.opening.session_id,
            text + detokenizer.flush(),
            tokens,
            position,
            completion=_completion(running, event),
        )

    def _close(self, running: Running) -> None:
        running.crew.close()
        session_id = running.opening.session_id
        running.verifier.forget(session_id)
        if running.verifier.healthy:
            running.verifier.send(AbortSession(session_id, running.opening.epoch))
        self._running.pop(session_id, None)


def _check_length(field: str, text: str, verifier: VerifierWorker) -> None:
    most = MAX_CHARACTERS_PER_TOKEN * _model_of(verifier).max_context
    require(len(text) <= most, field, f"{len(text)} characters", f"at most {most}")


def _completion(running: Running, event: SessionEvent) -> Completion:
    assert event.finish_reason is not None, "only the last event completes"
    description = running.verifier.description
    assert description is not None, "the session was opened on a known verifier"
    spread = running.last_token_at - running.first_token_at
    return Completion(
        finish_reason=event.finish_reason,
        usage=event.usage or Usage(running.opening.prompt_length, running.emitted),
        overlap=event.overlap or OverlapStatistics(),
        mode=running.opening.speculation.mode,
        exactness=_exactness(description),
        ttft_seconds=running.first_token_at - running.started if running.first_token_at else 0.0,
        tpot_seconds=spread / (running.emitted - 1) if running.emitted > 1 else 0.0,
    )


def _exactness(description: VerifierDescription) -> str:
    fingerprint = description.fingerprint
    if SYNTHETIC in fingerprint.numerics:
        return f"{SYNTHETIC}: texts are not the target's"
    deterministic = fingerprint.numerics == "deterministic"
    equal = "bitwise equal texts" if deterministic else f"equal texts up to near-ties of {fingerprint.dtype} logits"
    return f"every token an exact draw; {equal}"


def _refusal(rejection: Rejection) -> Exception:
    if rejection.status is Status.INVALID_ARGUMENT:
        return RefusedRequest(rejection.detail)
    return _REFUSALS.get(rejection.status, PacelineError)(rejection.detail)


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
