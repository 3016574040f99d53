"""The gateway's logic, without transport: from a request to a stream of chunks."""

from __future__ import annotations

import asyncio
import secrets
import time
import uuid
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from gateway.admission import Admission, Bounds, Demand, enter
from gateway.callers import ANONYMOUS, Caller
from gateway.coordinator import Coordinator, Crew
from gateway.mailbox import Mailbox
from gateway.routing import Candidate, Router
from gateway.text import Detokenizer, TextCodec
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
from paceline.speculation.policy import NO_SCOPE

TextT = TypeVar("TextT")

START_TIMEOUT_SECONDS = 5.0
"""How long a request waits for a verifier to be there."""

MAX_CHARACTERS_PER_TOKEN = 64
"""Longer texts than this times the context are refused before they are tokenized."""

LONG_CHARACTERS = 4096
"""Longer texts are tokenized beside the event loop: 4,096 characters take a millisecond, 100,000 take 45."""

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
    events: Mailbox
    crew: Crew
    started: float
    first_token_at: float = 0.0
    last_token_at: float = 0.0
    emitted: int = 0


class Gateway:
    """Admits requests and routes them to workers of a fixed topology."""

    def __init__(
        self,
        verifiers: Sequence[VerifierWorker],
        drafters: Sequence[DrafterWorker],
        bounds: Bounds | None = None,
        sessions_per_verifier: int = 0,
    ) -> None:
        """``sessions_per_verifier``: that run at a time, at most; 0: as many as it says that it takes."""
        self.verifiers, self.drafters = list(verifiers), list(drafters)
        self.admission = Admission(bounds or Bounds(), self._slots)
        self._sessions_per_verifier = sessions_per_verifier
        self._router = Router()
        self._coordinator = Coordinator(drafters)
        self._running: dict[str, Running] = {}
        for worker in self.verifiers:
            worker.on_change = self._fleet_changed

    # -- what clients ask ----------------------------------------------------------------------------------------------

    async def generate(self, request: Generate, caller: Caller = ANONYMOUS) -> AsyncIterator[Chunk]:
        """Streams the answer; leaving the iteration early ends the session everywhere.

        Raises ``ResourceExhausted`` at once, with a fair time to come back, where it would have to wait too long.
        """
        started = time.monotonic()
        model, codec = await self._model(request.model)
        demand = Demand(model.name, caller, caller.priority_for(request.priority))
        self.admission.check(demand)  # rather before a long prompt is tokenized than after it
        seed = request.seed if request.seed is not None else secrets.randbits(63)
        opening = await self._opening(request, caller, model, codec, seed)
        prediction = await self._prediction(request.speculation.prediction, model, codec)
        wanted, length = request.sampling.max_tokens, opening.prompt_length
        room = model.max_context - length
        demand = replace(demand, prompt_tokens=length, max_tokens=None if wanted is None else min(wanted, room))
        async with enter(self.admission, demand) as place:
            verifier = self._route(opening)
            reader = asyncio.current_task()
            events = Mailbox(lambda tokens: self.admission.leave(place, tokens), reader)
            verifier.open(opening, events)
            crew = self._coordinator.crew(opening, verifier, model, prediction)
            running = Running(opening, verifier, events, crew, started)
            self._running[opening.session_id] = running
            try:
                yield Chunk(opening.session_id, seed=seed)
                async for chunk in self._stream(running):
                    yield chunk
            finally:
                self._close(running)
                self.admission.leave(place, events.tokens)

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

    async def _model(self, name: str) -> tuple[ModelInfo, TextCodec]:
        """The model that is meant and its tokenizer, as soon as a verifier that has it is there."""
        deadline = time.monotonic() + START_TIMEOUT_SECONDS
        while True:
            names = [info.name for info in self.models()]
            require(bool(name) or len(names) < 2, "model", name, f"one of {', '.join(names)}")
            for worker in self.verifiers:
                if worker.healthy and worker.codec and name in ("", _model_of(worker).name):
                    return _model_of(worker), worker.codec
            if names and all(worker.healthy for worker in self.verifiers):
                raise NotFound(f"model = {name!r}: expected one of {', '.join(names)}")
            if time.monotonic() > deadline:
                raise Unavailable("no verifier is reachable")
            await asyncio.sleep(0.05)

    def _serving(self, model: str) -> list[VerifierWorker]:
        return [worker for worker in self.verifiers if worker.healthy and _model_of(worker).name == model]

    def _capacity(self, worker: VerifierWorker) -> int:
        assert worker.description is not None, "a healthy verifier has described itself"
        takes, most = worker.description.max_sessions, self._sessions_per_verifier
        return min(takes, most) if most else takes

    def _slots(self, model: str) -> int:
        """Sessions of ours that the model's verifiers take together, beside those of other gateways."""
        return sum(max(0, self._capacity(worker) - worker.others) for worker in self._serving(model))

    def _fleet_changed(self) -> None:
        for model in self.models():
            self.admission.fill(model.name)

    def _route(self, opening: OpenSession) -> VerifierWorker:
        serving = {worker.address: worker for worker in self._serving(opening.model)}
        if not serving:
            raise Unavailable(f"no verifier of {opening.model} is reachable")
        candidates = [Candidate(name, worker.sessions, self._capacity(worker)) for name, worker in serving.items()]
        scope = opening.speculation.cache_scope
        shared = () if scope == NO_SCOPE else opening.token_ids
        return serving[self._router.route(shared, scope, candidates)]

    async def _opening(
        self, request: Generate, caller: Caller, model: ModelInfo, codec: TextCodec, seed: int
    ) -> OpenSession:
        prompt = await self._encode(request, model, codec)
        require(bool(prompt), "prompt", request.text or "", "at least one token")
        require(len(prompt) < model.max_context, "prompt", f"{len(prompt)} tokens", f"fewer than {model.max_context}")
        largest = max(prompt)
        require(largest < model.vocabulary_size, "token_ids", largest, f"ids below {model.vocabulary_size}")
        self._check_names(request.speculation.drafters or (), model.name)
        scope = caller.cache_scope(request.speculation.cache_scope)
        return OpenSession(
            session_id=uuid.uuid4().hex,
            epoch=1,
            token_ids=tuple(prompt),
            prompt_length=len(prompt),
            sampling=request.sampling,
            speculation=replace(
                request.speculation, prediction="", cache_scope=scope
            ),  # only drafters have a use for it
            noise_key=noise_key(seed, request.choice_index, prompt),
            session_secret=secrets.token_bytes(32),
            priority=caller.priority_for(request.priority),
            model=model.name,
        )

    async def _encode(self, request: Generate, model: ModelInfo, codec: TextCodec) -> list[int]:
        if request.token_ids is not None:
            return list(request.token_ids)
        if request.chat is not None:
            require(bool(request.chat), "messages", [], "at least one message")
            characters = sum(len(message.content) for message in request.chat)
            _check_length("messages", characters, model)
            return await _beside(characters, codec.encode_chat, request.chat)
        text = request.text or ""
        _check_length("prompt", len(text), model)
        return await _beside(len(text), codec.encode, text)

    async def _prediction(self, text: str, model: ModelInfo, codec: TextCodec) -> tuple[int, ...]:
        """The client's guess at the text, in tokens."""
        _check_length("prediction", len(text), model)
        return tuple(await _beside(len(text), codec.encode, text)) if text else ()

    def _check_names(self, names: Sequence[str], model: str) -> None:
        addresses = [worker.address for worker in self.verifiers if model == _name_of(worker)]
        described = [worker.description for worker in self.drafters if worker.description]
        known = {drafter.drafter_id for drafter in described if any(map(drafter.drafts_for, addresses))}
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
        running.events.close()
        session_id = running.opening.session_id
        running.verifier.forget(session_id)
        if running.verifier.healthy:
            running.verifier.send(AbortSession(session_id, running.opening.epoch))
        self._running.pop(session_id, None)


def _check_length(field: str, characters: int, model: ModelInfo) -> None:
    most = MAX_CHARACTERS_PER_TOKEN * model.max_context
    require(characters <= most, field, f"{characters} characters", f"at most {most}")


async def _beside(characters: int, encode: Callable[[TextT], list[int]], text: TextT) -> list[int]:
    """Tokenizes, a long text in a thread: nobody else's stream shall wait for it."""
    return await asyncio.to_thread(encode, text) if characters > LONG_CHARACTERS else encode(text)


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


def _name_of(worker: VerifierWorker) -> str | None:
    return worker.description.model.name if worker.description else None


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
