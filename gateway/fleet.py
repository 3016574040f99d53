"""The workers that are there: which models they have, who serves them, and how much they take."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence

from gateway.routing import Candidate, Router
from gateway.text import TextCodec
from gateway.workers import DrafterWorker, VerifierWorker
from paceline.errors import NotFound, Unavailable
from paceline.messages import ModelInfo, OpenSession, VerifierDescription, Worker
from paceline.speculation.fields import require
from paceline.speculation.policy import NO_SCOPE

START_TIMEOUT_SECONDS = 5.0
"""How long a request waits for a verifier to be there."""


class Fleet:
    """Verifiers and drafters as one."""

    def __init__(
        self, verifiers: Sequence[VerifierWorker], drafters: Sequence[DrafterWorker], sessions_per_verifier: int = 0
    ) -> None:
        """``sessions_per_verifier``: that run at a time, at most; 0: as many as it says that it takes."""
        self.verifiers, self.drafters = list(verifiers), list(drafters)
        self._sessions_per_verifier = sessions_per_verifier
        self._router = Router()
        self._on_change: Callable[[], None] = lambda: None
        for worker in self.verifiers:
            worker.on_change = self._changed

    @property
    def workers(self) -> list[VerifierWorker | DrafterWorker]:
        return [*self.verifiers, *self.drafters]

    def watch(self, on_change: Callable[[], None]) -> None:
        """``on_change`` is called when verifiers may take more than before, or less."""
        self._on_change = on_change

    def _changed(self) -> None:
        """A verifier that is about to stop gives its sessions to another of its model, as soon as there is one."""
        for worker in self.verifiers:
            if worker.draining and self._serving(_model_of(worker).name):
                worker.hand_over("the verifier is draining")
        self._on_change()

    def add(self, worker: VerifierWorker | DrafterWorker) -> None:
        if isinstance(worker, VerifierWorker):
            worker.on_change = self._changed
            self.verifiers.append(worker)
        else:
            self.drafters.append(worker)

    def remove(self, worker: VerifierWorker | DrafterWorker) -> None:
        if isinstance(worker, VerifierWorker):
            self.verifiers.remove(worker)
        else:
            self.drafters.remove(worker)

    def models(self) -> list[ModelInfo]:
        """Each model once."""
        known = [worker.description.model for worker in self.verifiers if worker.description]
        return list({model.name: model for model in known}.values())

    async def model(self, name: str) -> tuple[ModelInfo, TextCodec]:
        """The model that is meant and its tokenizer, as soon as a verifier that has it is there; empty means the only
        one."""
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

    def description(self, model: str) -> VerifierDescription | None:
        """Of a verifier of the model, reachable or not."""
        known = [worker.description for worker in self.verifiers if worker.description]
        return next((description for description in known if description.model.name == model), None)

    def slots(self, model: str) -> int:
        """Sessions of ours that the model's verifiers take together, beside those of other gateways."""
        return sum(max(0, self._capacity(worker) - worker.others) for worker in self._serving(model))

    def route(self, opening: OpenSession) -> VerifierWorker:
        """The verifier that gets a session."""
        serving = {worker.address: worker for worker in self._serving(opening.model)}
        if not serving:
            raise Unavailable(f"no verifier of {opening.model} is reachable")
        candidates = [Candidate(name, worker.sessions, self._capacity(worker)) for name, worker in serving.items()]
        scope = opening.speculation.cache_scope
        shared = () if scope == NO_SCOPE else opening.token_ids
        return serving[self._router.route(shared, scope, candidates)]

    def drafter_names(self, model: str) -> set[str]:
        """Drafters that may dial a verifier of the model."""
        addresses = [
            worker.address for worker in self.verifiers if worker.description and _model_of(worker).name == model
        ]
        drafters = [worker.description for worker in self.drafters if worker.description]
        return {drafter.drafter_id for drafter in drafters if any(map(drafter.drafts_for, addresses))}

    def price_per_hour(self, drafter_id: str) -> float:
        """Of a drafter, as it says; 0 for one that is not known."""
        known = (worker.description for worker in self.drafters if worker.description)
        return next((drafter.price_per_hour for drafter in known if drafter.drafter_id == drafter_id), 0.0)

    def rows(self) -> list[Worker]:
        """All workers, reachable or not."""
        return [_verifier_row(worker) for worker in self.verifiers] + [_drafter_row(worker) for worker in self.drafters]

    def _serving(self, model: str) -> list[VerifierWorker]:
        return [worker for worker in self.verifiers if worker.healthy and _model_of(worker).name == model]

    def _capacity(self, worker: VerifierWorker) -> int:
        assert worker.description is not None, "a healthy verifier has described itself"
        takes, most = worker.description.max_sessions, self._sessions_per_verifier
        return min(takes, most) if most else takes


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
