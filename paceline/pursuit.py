"""How a client sees an answer through: which gateway is asked what next, when a stream breaks.

No transport: the clients for coroutines and for threads both follow it.
"""

from __future__ import annotations

import random
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import grpc

from paceline import wire
from paceline.messages import Chunk, Generate
from paceline.telemetry.context import Metadata, with_context

PATIENCE_SECONDS = 30.0
"""For so long without a new token a client goes on asking."""
FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 0.05, 1.0


@dataclass
class Pursuit:
    """One answer. ``request`` None: it was begun by somebody else, and is resumed from ``token``."""

    request: Generate | None
    token: str = ""
    gateways: int = 1
    """That may be asked, one after the other."""
    patience_seconds: float = PATIENCE_SECONDS
    clock: Callable[[], float] = time.monotonic
    done: bool = False
    """The last chunk was heard."""
    _heard: bool = False
    _failures: int = 0
    _failed_at: float = 0.0
    traceparent: str = ""
    """Of the span that asks; empty: of the one that it is asked in, if there is one."""
    _key: str = field(default_factory=lambda: uuid.uuid4().hex)

    def call(self, stub: Any, metadata: Metadata) -> Any:
        """The next call: the answer from its beginning, or the rest of it."""
        metadata = with_context(metadata, self.traceparent)
        if self.token:
            return stub.Resume(wire.gateway.ResumeRequest(resume_token=self.token), metadata=metadata)
        assert self.request is not None, "there is a request or a token"
        return stub.Generate(wire.to_generate(self._again_or_once(self.request)), metadata=metadata)

    def hear(self, chunk: Chunk) -> bool:
        """Whether the chunk is to be told; the greeting of a resumed stream says nothing new."""
        news = bool(chunk.token_ids or chunk.completion or chunk.events or not self._heard)
        self._heard, self._failures = True, 0
        self.token, self.done = chunk.resume_token, chunk.completion is not None
        return news

    def goes_on(self, error: grpc.RpcError) -> bool:
        """After a failure: whether it is worth another call."""
        now = self.clock()
        self._failed_at = now if self._failures == 0 else self._failed_at
        self._failures += 1
        may = bool(self.token) if self._heard else self.gateways > 1
        gone = getattr(error, "code", lambda: None)() is grpc.StatusCode.UNAVAILABLE
        return gone and may and now - self._failed_at < self.patience_seconds

    @property
    def pause_seconds(self) -> float:
        """Before that call; the first is made at once where there is another gateway to ask."""
        turn = self._failures - self.gateways
        if turn < 0:
            return 0.0
        longest: float = min(FIRST_PAUSE_SECONDS * 2**turn, LONGEST_PAUSE_SECONDS)
        return longest * (0.5 + random.random() / 2)

    def _again_or_once(self, request: Generate) -> Generate:
        """So that a gateway which dies before it has answered does not leave a session behind beside the next one."""
        if request.idempotency_key or self.gateways == 1:
            return request
        return replace(request, idempotency_key=self._key)
