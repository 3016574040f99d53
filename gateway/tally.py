"""One request, counted from its arrival to its end."""

from __future__ import annotations

import asyncio
import contextlib
import re
import time
from collections.abc import Iterator

from gateway.counts import Counts
from paceline.errors import FieldError, PacelineError
from paceline.messages import Chunk, CommittedTokens, Completion

LEFT, FAILED = "left", "failed"
"""Outcomes of requests whose client went away, and of those that a mistake of ours has ended."""


class Tally:
    """Hears what becomes of a request."""

    def __init__(self, counts: Counts, *, chat: bool = False, first_choice: bool = False) -> None:
        """``first_choice``: its prompt counts; further choices have the same."""
        self.counts, self._chat, self._first_choice = counts, chat, first_choice
        self.model = ""
        """One that there is, whatever was asked for; empty as long as it is not known."""
        self.prompt_tokens = 0
        self._started = time.monotonic()
        self._first_at = self._last_at = 0.0
        self._came = self._delivered = 0
        """Tokens that were emitted for it or recalled, and those that its client was given."""
        self._completion: Completion | None = None

    def admitted(self, waited_seconds: float) -> None:
        """It has a slot."""
        self.counts.timings.waited(waited_seconds, self.model)

    def heard(self, committed: CommittedTokens) -> None:
        """A verifier has emitted tokens for it."""
        steps = self.counts.of(self.model).steps
        for step in committed.counted:
            steps.add(step)
        self._came += len(committed.token_ids)

    def recalled(self, tokens: int) -> None:
        """The journal has told tokens that its client does not have."""
        self.counts.of(self.model).recalled += tokens
        self._came += tokens

    def told(self, chunk: Chunk) -> None:
        """Its client is about to be given a chunk; the first one greets it, and may repeat what it has."""
        if chunk.seed is not None:
            if self._first_choice:
                self.counts.of(self.model).prompt += self.prompt_tokens
        elif chunk.token_ids:
            self._last_at = time.monotonic()
            if not self._delivered:
                self._first_at = self._last_at
                self.counts.timings.first_token(self._first_at - self._started, self.model, chat=self._chat)
            self._delivered += len(chunk.token_ids)
            self.counts.of(self.model).delivered += len(chunk.token_ids)
        self._completion = chunk.completion or self._completion

    def closed(self, *, stopped: bool, kept: bool) -> None:
        """Its session has left: what its client was not given is nobody's. ``stopped``: by a stop string."""
        counts, rest = self.counts.of(self.model), self._came - self._delivered
        if stopped:
            counts.trimmed += rest
        else:
            counts.unheard += rest
        self.counts.unkept += not kept

    def over(self, kind: str, outcome: str) -> None:
        """It has ended so, unless its text had ended before."""
        timings, done, error = self.counts.timings, self._completion, outcome
        if done is not None:
            outcome, error = done.finish_reason.value, ""
            if self._first_choice:
                self.counts.of(self.model).cached += done.usage.cached_tokens
            timings.usage(done.usage, self.model, chat=self._chat)
        self.counts.requests[self.model, kind, outcome] += 1
        timings.over(time.monotonic() - self._started, self.model, error, chat=self._chat)
        if self._delivered > 1:
            spread = self._last_at - self._first_at
            timings.per_token(spread / (self._delivered - 1), self.model, chat=self._chat)


@contextlib.contextmanager
def counted(tally: Tally, kind: str) -> Iterator[Tally]:
    """The request is answered inside."""
    outcome = FAILED
    try:
        yield tally
        outcome = LEFT
    except (GeneratorExit, asyncio.CancelledError):
        outcome = LEFT
        raise
    except (FieldError, PacelineError) as error:
        outcome = _name_of(error)
        raise
    finally:
        tally.over(kind, outcome)


def _name_of(error: Exception) -> str:
    """Its class in small letters, as resource_exhausted."""
    return re.sub(r"(?<!^)(?=[A-Z])", "_", type(error).__name__).lower()
