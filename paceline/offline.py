"""The offline door: target, drafter and verifier in one process, for notebooks and evaluation.

The same verifier and drafters as behind gRPC, turned by hand, so that a text is the same as the service would give.
"""

from __future__ import annotations

import os
import secrets
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import torch

from drafter_service.drafters.base import DraftKind
from drafter_service.drafters.model import ModelDrafter
from drafter_service.drafters.ngram import NgramDrafter
from drafter_service.service import Drafter
from gateway.text import TextCodec
from paceline.checkpoint import check_reference, read_tokenizer, resolve
from paceline.embedded import DRAFT, TARGET
from paceline.engine.runner import ModelRunner, Numerics
from paceline.engine.warmup import warm_up
from paceline.errors import FieldError, TargetFailed
from paceline.messages import (
    AbortSession,
    Attach,
    DraftUpdate,
    FinishReason,
    ModelInfo,
    OpenSession,
    OverlapStatistics,
    Rejection,
    SessionEvent,
    Usage,
    Verdicts,
)
from paceline.process import keep_freed_memory
from paceline.speculation.fields import require
from paceline.speculation.logprobs import TokenLogprobs
from paceline.speculation.noise import noise_key
from paceline.speculation.policy import Mode, SpeculationParameters
from paceline.speculation.sampling import SamplingParameters
from verifier_service.grammar.compiler import open_compiler
from verifier_service.service import Verifier
from verifier_service.table import Limits

Prompt = str | Sequence[int]
EMBEDDED = "embedded"
NGRAM = "ngram"


@dataclass(frozen=True)
class Output:
    """One finished text."""

    prompt_token_ids: tuple[int, ...]
    text: str
    token_ids: tuple[int, ...]
    finish_reason: FinishReason
    seed: int
    usage: Usage
    overlap: OverlapStatistics
    logprobs: tuple[TokenLogprobs, ...] = ()
    """Of each token, if asked for."""


@dataclass
class _Collected:
    """What a session has said so far; it is its gateway link."""

    opening: OpenSession
    seed: int
    token_ids: list[int] = field(default_factory=list)
    logprobs: list[TokenLogprobs] = field(default_factory=list)
    end: SessionEvent | None = None

    def send(self, events: Sequence[SessionEvent]) -> None:
        for event in events:
            if event.committed:
                self.token_ids.extend(event.committed.token_ids)
                self.logprobs.extend(event.committed.logprobs)
            if event.last:
                self.end = event


class _Direct:
    """Both directions between a drafter and the verifier, without a wire."""

    def __init__(self, verifier: Verifier, drafter: Drafter) -> None:
        self._verifier, self._drafter = verifier, drafter

    def send(self, message: DraftUpdate | Verdicts) -> None:
        if isinstance(message, Verdicts):
            self._drafter.receive(message, self)
        else:
            self._verifier.update(message, self)


class LLM:
    """``LLM("path/or/hub-id").generate(["Once upon a time"])``.

    ``target`` and ``draft`` are checkpoint directories or hub ids, or ``"embedded"`` for the pair that comes with the
    package; ``draft`` may also be ``"ngram"``, or None for the target alone. One process has one device to compute
    with, so drafting and verifying take turns here (``lockstep``); only services overlap them.
    """

    def __init__(
        self,
        target: str = EMBEDDED,
        draft: str | None = None,
        *,
        device: str = "cpu",
        dtype: str = "float32",
        numerics: str = "standard",
        cache_tokens: int = 65536,
        threads: int = 0,
    ) -> None:
        known = [item.value for item in Numerics]
        require(numerics in known, "numerics", numerics, f"one of {', '.join(known)}")
        keep_freed_memory()
        torch.set_num_threads(threads or os.cpu_count() or 1)
        directory = resolve(_reference("target", target, str(TARGET)))
        runner = ModelRunner.load(
            directory, cache_tokens=cache_tokens, device=device, dtype=dtype, numerics=Numerics(numerics)
        )
        config = runner.config
        info = ModelInfo(directory.name, config.vocabulary_size, config.max_context, "", config.stop_token_ids)
        files = read_tokenizer(directory)
        limits, compiler = Limits(max_waiting=1 << 20), open_compiler(info, files)
        self._verifier = Verifier(runner, info, limits, warm_up(runner), compiler=compiler)
        self._codec = TextCodec(files)
        self._drafter = self._link = None
        if draft is not None:
            kind = _kind(draft, cache_tokens, device, dtype)
            self._drafter = Drafter(
                kind,
                drafter_id=kind.name,
                vocabulary_size=config.vocabulary_size,
                max_context=config.max_context,
                max_sessions=1 << 20,
            )
            self._link = _Direct(self._verifier, self._drafter)

    def generate(
        self,
        prompts: Prompt | Sequence[Prompt],
        sampling: SamplingParameters | None = None,
        *,
        seed: int | None = None,
        speculation: SpeculationParameters | None = None,
    ) -> list[Output]:
        """Continues all prompts, texts or token ids, together; the outputs are in their order.

        A prompt's text depends on the prompt, ``sampling`` and ``seed`` alone; without a seed one is drawn. Raises
        ``FieldError`` for what cannot be served and ``TargetFailed`` if the target's logits are not numbers.
        """
        mode = Mode.OFF if self._drafter is None else Mode.LOCKSTEP
        speculation = speculation or SpeculationParameters(mode=mode)
        require(not speculation.events, "events", speculation.events, "False: only services tell them")
        seed = secrets.randbits(63) if seed is None else seed
        sampling = sampling or SamplingParameters()
        sessions: list[_Collected] = []
        try:
            for prompt in _several(prompts):
                self._open(self._encode(prompt), sampling, speculation, seed, sessions)
            self._turn()
        finally:
            for session in sessions:
                if session.end is None:
                    self._verifier.command(AbortSession(session.opening.session_id, session.opening.epoch), session)
        return [self._output(session) for session in sessions]

    def _turn(self) -> None:
        """Grows and steps until every session is over."""
        while self._verifier.busy:
            grown = self._drafter is not None and self._drafter.grow()
            if not self._verifier.step() and not grown:
                time.sleep(1e-4)  # a round of drafting that nobody completes runs into its timeout
        if self._drafter is not None:
            self._drafter.grow()

    def _encode(self, prompt: Prompt) -> tuple[int, ...]:
        return tuple(self._codec.encode(prompt) if isinstance(prompt, str) else prompt)

    def _open(
        self,
        prompt: tuple[int, ...],
        sampling: SamplingParameters,
        speculation: SpeculationParameters,
        seed: int,
        sessions: list[_Collected],
    ) -> None:
        opening = OpenSession(
            session_id=uuid.uuid4().hex,
            epoch=1,
            token_ids=prompt,
            prompt_length=len(prompt),
            sampling=sampling,
            speculation=replace(speculation, prediction=""),  # only drafters have a use for it
            noise_key=noise_key(seed, 0, prompt),
            session_secret=secrets.token_bytes(32),
        )
        session = _Collected(opening, seed)
        self._verifier.command(opening, session)
        if session.end is not None and session.end.rejected is not None:
            raise FieldError("prompt", f"{len(prompt)} tokens", _taken(session.end.rejected))
        sessions.append(session)
        if self._drafter is not None and self._link is not None and speculation.mode is not Mode.OFF:
            prediction = self._encode(speculation.prediction) if speculation.prediction else ()
            attach = Attach.to(opening, "", self._drafter.drafter_id, prediction)
            self._drafter.attach(attach, self._link, lambda _: None)

    def _output(self, session: _Collected) -> Output:
        end, token_ids = session.end, tuple(session.token_ids)
        assert end is not None, "every session is over"
        if end.rejected is not None:  # what is said at once is raised at once; a grammar is compiled first
            raise FieldError("prompt", f"{len(session.opening.token_ids)} tokens", _taken(end.rejected))
        assert end.finish_reason is not None, "else it was refused"
        if end.finish_reason is FinishReason.ERROR:
            raise TargetFailed(end.detail)
        return Output(
            prompt_token_ids=session.opening.token_ids,
            text=self._text(token_ids),
            token_ids=token_ids,
            finish_reason=end.finish_reason,
            seed=session.seed,
            usage=end.usage or Usage(len(session.opening.token_ids), len(token_ids)),
            overlap=end.overlap or OverlapStatistics(),
            logprobs=tuple(session.logprobs),
        )

    def _text(self, token_ids: tuple[int, ...]) -> str:
        detokenizer = self._codec.detokenizer()
        return "".join(detokenizer.add(token_ids)) + detokenizer.flush()


def _several(prompts: Prompt | Sequence[Prompt]) -> list[Prompt]:
    """A single prompt is one of several."""
    if isinstance(prompts, str):
        return [prompts]
    if prompts and isinstance(prompts[0], int):
        return [prompts]  # type: ignore[list-item]
    return list(prompts)  # type: ignore[arg-type]


def _taken(rejection: Rejection) -> str:
    return f"what the target takes: {rejection.detail}"


def _reference(field_: str, reference: str, embedded: str) -> str:
    if reference == EMBEDDED:
        return embedded
    check_reference(field_, reference)
    return reference


def _kind(draft: str, cache_tokens: int, device: str, dtype: str) -> DraftKind:
    if draft == NGRAM:
        return NgramDrafter()
    path = resolve(_reference("draft", draft, str(DRAFT)))
    return ModelDrafter(ModelRunner.load(path, cache_tokens=cache_tokens, device=device, dtype=dtype))
