"""Grammars by xgrammar: byte-level pushdown automata. An extra, for who wants vLLM's own backend; chosen by name.

It is imported when it is first asked for: with what it imports in turn that takes some seconds.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import threading
from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np
from tokenizers import Tokenizer

from paceline.speculation.grammar import Grammar, GrammarKind
from verifier_service.grammar.backend import Bits, Compiled, GrammarFailed, State
from verifier_service.grammar.guidance import choices, problem

SEPARATORS = (", ", ": ")
"""JSON as the default backend has it, so that most of what is between values is forced."""


def installed() -> bool:
    return importlib.util.find_spec("xgrammar") is not None


class Pushdown:
    """xgrammar over one tokenizer."""

    name = "xgrammar"

    def __init__(self, tokenizer_json: str, vocabulary_size: int, stop_token_ids: Sequence[int]) -> None:
        self.version = importlib.metadata.version("xgrammar")
        self._tokenizer_json, self._size, self._stop = tokenizer_json, vocabulary_size, list(stop_token_ids)
        self._tokenizer = Tokenizer.from_str(tokenizer_json)
        self._lock = threading.Lock()

    @cached_property
    def _compiler(self) -> Any:
        import xgrammar

        encoded = [""] * self._tokenizer.get_vocab_size()
        for token, token_id in self._tokenizer.get_vocab().items():
            encoded[token_id] = token
        found = xgrammar.TokenizerInfo._detect_metadata_from_hf(self._tokenizer_json)  # noqa: SLF001 - as its own loader
        info = xgrammar.TokenizerInfo(encoded, vocab_size=self._size, stop_token_ids=self._stop, **found)
        return xgrammar.GrammarCompiler(info, max_threads=1, cache_enabled=False)

    def load(self) -> None:
        with self._lock:
            _ = self._compiler

    def compile(self, grammar: Grammar) -> Compiled:
        try:
            return _Compiled(_compile(self._compiler, grammar), self._tokenizer, self._size)
        except (RuntimeError, ValueError) as error:
            raise problem(grammar, str(error)) from error


def _compile(compiler: Any, grammar: Grammar) -> Any:
    match grammar.kind:
        case GrammarKind.JSON_SCHEMA:
            return compiler.compile_json_schema(grammar.text, any_whitespace=False, separators=SEPARATORS)
        case GrammarKind.REGEX:
            return compiler.compile_regex(grammar.text)
        case GrammarKind.EBNF:
            return compiler.compile_grammar(grammar.text)
        case GrammarKind.CHOICES:
            alternatives = " | ".join(json.dumps(choice) for choice in choices(grammar))
            return compiler.compile_grammar(f"root ::= {alternatives}")


class _Compiled:
    def __init__(self, compiled: Any, tokenizer: Tokenizer, vocabulary_size: int) -> None:
        self._compiled, self._tokenizer, self._size = compiled, tokenizer, vocabulary_size

    def start(self) -> State:
        import xgrammar

        return _State(xgrammar.GrammarMatcher(self._compiled), self._tokenizer, self._size)


class _State:
    """The matcher never sees a stop token, so that it is never terminated."""

    def __init__(self, matcher: Any, tokenizer: Tokenizer, vocabulary_size: int) -> None:
        self._matcher, self._tokenizer, self._size = matcher, tokenizer, vocabulary_size

    def copy(self) -> State:
        return _State(self._matcher.fork(), self._tokenizer, self._size)

    def advance(self, token_id: int) -> bool:
        return bool(self._matcher.accept_token(token_id))

    def rollback(self, count: int) -> None:
        if count:
            self._matcher.rollback(count)

    def admits(self, token_ids: Sequence[int]) -> int:
        count = 0
        while count < len(token_ids) and self.advance(token_ids[count]):
            count += 1
        self.rollback(count)
        return count

    def bits(self) -> Bits:
        import xgrammar

        mask = xgrammar.allocate_token_bitmask(1, self._size)  # anew: no row of an earlier mask can be left in it
        if not self._matcher.fill_next_token_bitmask(mask):
            mask.fill_(-1)  # it says so where everything may come
        bits: Bits = np.asarray(mask.numpy()).view(np.uint8).reshape(-1)
        if not bits.any():
            raise GrammarFailed("nothing continues the text, and it is not complete")
        return bits

    def forced(self) -> list[int]:
        text = self._matcher.find_jump_forward_string()
        if not text:
            return []
        token_ids = self._tokenizer.encode(text, add_special_tokens=False).ids
        return list(token_ids[: self.admits(token_ids)])
