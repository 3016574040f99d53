"""Compiles grammars in threads of its own and keeps those that were used last."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context

from paceline.errors import FailedPrecondition, FieldError, PacelineError
from paceline.logs import get_logger
from paceline.messages import ModelInfo, TokenizerFiles
from paceline.speculation.grammar import Grammar
from paceline.speculation.sampling import SamplingParameters
from verifier_service.grammar import pushdown
from verifier_service.grammar.backend import Backend, Compiled, GrammarFailed
from verifier_service.grammar.matcher import Matcher

logger = get_logger(__name__)
CACHED = 128
"""Compiled grammars that are kept."""
COMPILE_SECONDS = 2.0
"""A grammar that takes longer to compile is refused; what its kind may take at all is the backend's limit."""
THREADS = 2
"""So that a slow grammar keeps nobody waiting who has a fast one."""
STACK_BYTES = 1 << 28
"""Of each, taken as it is used: a grammar of ``MAX_GRAMMAR`` characters has some 40,000 levels at most, of 4 KiB."""

Started = Callable[[Matcher | FieldError | PacelineError], None]


class GrammarCompiler:
    """Starts matchers for the sessions of one model."""

    def __init__(
        self, backends: Sequence[Backend], model: ModelInfo, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """``backends``: the default first; none: every grammar is refused."""
        self._backends, self._model, self._clock = {backend.name: backend for backend in backends}, model, clock
        self._lock = threading.Lock()
        self._cache: OrderedDict[Grammar, Compiled | FieldError] = OrderedDict()
        self._threads = _deep_threads()

    @property
    def fingerprint(self) -> str:
        return ", ".join(f"{backend.name} {backend.version}" for backend in self._backends.values())

    def __len__(self) -> int:
        """Grammars that are kept."""
        return len(self._cache)

    def check(self, grammar: Grammar) -> None:
        """Raises what can be said without compiling."""
        if not self._backends:
            raise FailedPrecondition("the target has no tokenizer.json, or no stop token, to hold a grammar to")
        if grammar.backend not in ("", *self._backends):
            raise FieldError("backend", grammar.backend, f"one of {', '.join(self._backends)}, or none")

    def start(self, sampling: SamplingParameters, token_ids: Sequence[int], started: Started) -> None:
        """Calls ``started`` from another thread, with a matcher that has followed ``token_ids`` or with what is wrong.

        ``sampling.grammar`` has passed ``check``.
        """
        self._threads.submit(copy_context().run, self._start, sampling, token_ids, started)

    def _start(self, sampling: SamplingParameters, token_ids: Sequence[int], started: Started) -> None:
        grammar = sampling.grammar
        assert grammar is not None, "it is what this is for"
        outcome: Matcher | FieldError | PacelineError
        try:
            outcome = self._matcher(grammar, token_ids, ignore_eos=sampling.ignore_eos)
        except FieldError as error:
            outcome = error
        except BaseException as error:  # a panic in native code, too, is this session's alone
            logger.exception("compiling a grammar has failed")
            outcome = PacelineError(f"compiling the grammar failed: {type(error).__name__}")
        started(outcome)

    def _matcher(self, grammar: Grammar, token_ids: Sequence[int], *, ignore_eos: bool) -> Matcher:
        model, compiled = self._model, self.compile(grammar)
        try:
            return Matcher(compiled, token_ids, model.vocabulary_size, model.stop_token_ids, ignore_eos=ignore_eos)
        except GrammarFailed as error:
            raise FieldError("token_ids", f"{len(token_ids)} tokens", f"a beginning that fits ({error})") from error

    def compile(self, grammar: Grammar) -> Compiled:
        """From the cache, or anew. Raises ``FieldError``, which is kept as well."""
        with self._lock:
            found = self._cache.get(grammar)
            if found is not None:
                self._cache.move_to_end(grammar)
        if found is None:
            found = self._compile(grammar)
            with self._lock:
                self._cache[grammar] = found
                while len(self._cache) > CACHED:
                    self._cache.popitem(last=False)
        if isinstance(found, FieldError):
            raise found
        return found

    def _compile(self, grammar: Grammar) -> Compiled | FieldError:
        backend = self._backends[grammar.backend or next(iter(self._backends))]
        backend.load()  # which is no fault of the grammar's
        began = self._clock()
        try:
            compiled = backend.compile(grammar)
        except FieldError as error:
            return error
        took = self._clock() - began
        if took > COMPILE_SECONDS:
            limit = f"a grammar that compiles within {COMPILE_SECONDS} s (it took {took:.1f} s)"
            return FieldError(grammar.kind.value, f"{len(grammar.text)} characters", limit)
        return compiled


def _deep_threads() -> ThreadPoolExecutor:
    """Native compilers recurse as deep as a grammar goes, and overflow a usual stack, which ends the process."""
    usual, all_there = threading.stack_size(STACK_BYTES), threading.Barrier(THREADS + 1)
    try:
        threads = ThreadPoolExecutor(THREADS, "grammar")
        for _ in range(THREADS):
            threads.submit(all_there.wait)
        all_there.wait()
    finally:
        threading.stack_size(usual)
    return threads


def open_compiler(
    model: ModelInfo, files: TokenizerFiles, clock: Callable[[], float] = time.monotonic
) -> GrammarCompiler:
    """With what is installed and fits the model."""
    backends: list[Backend] = []
    if files.tokenizer_json and model.stop_token_ids:
        from verifier_service.grammar.guidance import Guidance

        text = files.tokenizer_json.decode()
        backends.append(Guidance(text, model.vocabulary_size, model.stop_token_ids))
        if pushdown.installed():
            backends.append(pushdown.Pushdown(text, model.vocabulary_size, model.stop_token_ids))
    return GrammarCompiler(backends, model, clock)
