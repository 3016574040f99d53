"""One request's answer while it comes: chunks in, OpenAI's objects out."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from gateway.access import request_id
from gateway.http.choices import Batch
from gateway.http.encoding import event
from gateway.http.errors import Failure
from gateway.http.models import Model, unhurried
from gateway.http.resuming import UNHEARD, Mark, event_id
from gateway.http.speculation import speculation_body
from gateway.http.usage import common_length, metrics_body, usage_body
from paceline.messages import Chunk, Completion, Generate
from paceline.speculation.logprobs import TokenLogprobs


@dataclass
class Choice:
    """What has come of one generation."""

    index: int
    text: list[str] = field(default_factory=list)
    length: int = 0
    """Characters."""
    token_ids: list[int] = field(default_factory=list)
    piece_lengths: list[int] = field(default_factory=list)
    logprobs: list[TokenLogprobs] = field(default_factory=list)
    completion: Completion | None = None
    shown: bool = False
    """Something of it has been streamed."""
    recalled: bool = False
    """That was before: what the client has of it comes once more, and is not told again."""
    mark: Mark = UNHEARD
    """Where the client stands once it was told all this; without a token it cannot go on from there."""

    @classmethod
    def after(cls, index: int, mark: Mark) -> Choice:
        """One of which the client has heard so much."""
        heard = bool(mark.token)
        return cls(index, shown=heard, recalled=heard, mark=mark)

    def news(self, chunk: Chunk, *, telling: bool) -> bool:
        """Whether there is anything in it to be told; ``telling``: tokens and events are, too."""
        if self.recalled and chunk.seed is not None:
            return False
        ends = chunk.completion is not None and not self.mark.ended
        return bool(chunk.text or ends or (telling and (chunk.token_ids or chunk.events)))

    def add(self, chunk: Chunk) -> None:
        self.text.append(chunk.text)
        self.length += len(chunk.text)
        self.token_ids += chunk.token_ids
        self.piece_lengths += chunk.piece_lengths
        self.logprobs += chunk.logprobs
        self.completion = chunk.completion
        self.mark = Mark(chunk.resume_token, self.mark.ended or chunk.completion is not None)


class Format(Protocol):
    """Completions or chats."""

    @property
    def prefix(self) -> str:
        """Of the answer's id."""
        ...

    @property
    def whole_object(self) -> str: ...

    @property
    def chunk_object(self) -> str: ...

    def whole(self, choice: Choice) -> dict[str, Any]:
        """The finished choice, without what is common to both formats."""
        ...

    def part(self, choice: Choice, chunk: Chunk) -> dict[str, Any]:
        """What ``chunk`` adds to the choice; ``choice`` is as before it."""
        ...


@dataclass(frozen=True)
class Job:
    """A request, understood: one generation per choice, those of one prompt side by side."""

    model: Model
    generations: tuple[Generate, ...]
    heard: tuple[Mark, ...]
    """How far the client has heard each of them already."""
    choices_per_prompt: int
    format: Format
    seed: int
    stream: bool
    include_usage: bool
    prediction: tuple[int, ...]

    @property
    def events(self) -> bool:
        return self.generations[0].speculation.events


class Answer:
    """Collects the choices of a job."""

    def __init__(self, job: Job, *, identified: bool) -> None:
        """``identified``: events have ids, from which the client can go on."""
        self._job, self._identified = job, identified
        self._choices = [Choice.after(index, mark) for index, mark in enumerate(job.heard)]
        self._telling = job.events or job.generations[0].sampling.logprobs is not None
        self._head = {
            "id": f"{job.format.prefix}-{request_id()}",
            "object": job.format.chunk_object if job.stream else job.format.whole_object,
            "created": int(time.time()),
            "model": job.model.info.name,
            "system_fingerprint": job.model.system_fingerprint,
        }

    def add(self, batch: Batch) -> None:
        for index, chunk in batch:
            self._choices[index].add(chunk)

    def stream(self, batch: Batch) -> bytes:
        """The events that tell of a batch, to be written at once; empty if there is nothing to tell."""
        return b"".join(self._event(self._choices[index], chunk) for index, chunk in batch)

    async def whole(self) -> dict[str, Any]:
        choices = [
            {"index": choice.index, **self._job.format.whole(choice), **_ending(_completion(choice))}
            for choice in self._choices
        ]
        return {**self._head, "choices": choices, "usage": await self._usage(), "metrics": self._metrics()}

    async def last(self) -> bytes:
        """The event that ends a stream, if one was asked for: usage and statistics."""
        if not (self._job.include_usage or self._job.events):
            return b""
        usage = {"usage": await self._usage()} if self._job.include_usage else {}
        return event({**self._head, "choices": [], **usage, "metrics": self._metrics()}, self._event_id)

    def broken(self, failure: Failure) -> bytes:
        """The event that ends a stream otherwise, with the id from which it may go on."""
        return event(failure.body, self._event_id)

    @property
    def completions(self) -> Sequence[Completion]:
        """How the choices ended; those that have."""
        return [choice.completion for choice in self._choices if choice.completion]

    @property
    def _event_id(self) -> str | None:
        """Where the client stands now; empty if it cannot go on from there, None if it has heard nothing or has no use
        for it."""
        shown = [choice for choice in self._choices if choice.shown]
        if not shown or not self._identified:
            return None
        if not all(choice.mark.token for choice in shown):
            return ""
        return event_id([choice.mark if choice.shown else UNHEARD for choice in self._choices])

    def _event(self, choice: Choice, chunk: Chunk) -> bytes:
        if not choice.news(chunk, telling=self._telling):
            choice.add(chunk)
            return b""
        part = self._job.format.part(choice, chunk)
        choice.add(chunk)
        choice.shown = True
        data: dict[str, Any] = {**self._head, "choices": [{"index": choice.index, **part, **_ending(chunk.completion)}]}
        if self._job.include_usage:
            data["usage"] = None
        if self._job.events:
            data["speculation"] = speculation_body(chunk)
        return event(data, self._event_id)

    async def _usage(self) -> dict[str, Any]:
        job, predicted = self._job, self._job.prediction
        accepted = None
        if job.generations[0].speculation.prediction:
            texts = [tuple(choice.token_ids) for choice in self._choices]
            size = len(predicted) * max(map(len, texts)) // 64
            accepted = await unhurried(size, lambda: sum(common_length(text, predicted) for text in texts))
        return usage_body(self.completions, job.choices_per_prompt, accepted, len(predicted) * len(self._choices))

    def _metrics(self) -> dict[str, Any]:
        return metrics_body(self.completions, self._job.seed, self._job.generations[0].speculation.max_draft_nodes)


def _completion(choice: Choice) -> Completion:
    assert choice.completion is not None, "a generation that ends without an error ends with its completion"
    return choice.completion


def _ending(completion: Completion | None) -> dict[str, Any]:
    if completion is None:
        return {"finish_reason": None}
    return {"finish_reason": completion.finish_reason.value, "stop_reason": completion.stop_reason or None}
