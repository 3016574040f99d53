"""Grammars by llguidance: derivatives of regular expressions for the lexer, Earley above it."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence

import numpy as np
from llguidance import LLMatcher, LLParserLimits, LLTokenizer, __version__
from llguidance.gbnf_to_lark import any_to_lark

from paceline.errors import FieldError
from paceline.speculation.fields import require
from paceline.speculation.grammar import Grammar, GrammarKind
from verifier_service.grammar.backend import Bits, Compiled, GrammarFailed, State

LEXER_FUEL = 400_000
"""What a grammar's terminals may take to build; bounds the slowest masks too."""
SEPARATORS = {"whitespace_flexible": False, "item_separator": ", ", "key_separator": ": "}
"""JSON as ``json.dumps`` writes it, so that most of what is between values is forced. A schema's ``x-guidance`` may say
otherwise."""
MAX_CHOICES = 4096
_SHOWN, _SAID = 60, 300
_EXPECTED = {
    GrammarKind.JSON_SCHEMA: "a JSON schema that can be enforced",
    GrammarKind.REGEX: "a regular expression (Rust's syntax, no look-around)",
    GrammarKind.EBNF: "a grammar in GBNF (root ::= …) or Lark syntax (start: …)",
    GrammarKind.CHOICES: f"a JSON array of 1 to {MAX_CHOICES} strings",
}


class Guidance:
    """llguidance over one tokenizer."""

    name = "llguidance"
    version = __version__

    def __init__(self, tokenizer_json: str, vocabulary_size: int, stop_token_ids: Sequence[int]) -> None:
        """``vocabulary_size`` is the model's; ids that the tokenizer lacks are never allowed. Takes up to seconds."""
        self._tokenizer = LLTokenizer(tokenizer_json, n_vocab=vocabulary_size, eos_token=list(stop_token_ids))
        self._stop = np.array(stop_token_ids, np.intp)

    def load(self) -> None:
        """It has been."""

    def compile(self, grammar: Grammar) -> Compiled:
        source = _source(grammar)
        limits = LLParserLimits(initial_lexer_fuel=LEXER_FUEL, verbose_errors=False)
        matcher = LLMatcher(self._tokenizer, source, log_level=0, limits=limits)
        if matcher.is_error():
            raise problem(grammar, matcher.get_error())
        compiled = _Compiled(matcher, self._stop)
        try:
            compiled.start().bits()
        except GrammarFailed as error:
            raise problem(grammar, str(error)) from error
        return compiled


class _Compiled:
    """A matcher at the beginning that is only ever copied."""

    def __init__(self, matcher: LLMatcher, stop: np.ndarray[tuple[int], np.dtype[np.intp]]) -> None:
        self._matcher, self._stop = matcher, stop

    def start(self) -> State:
        return _State(self._matcher.deep_copy(), self._stop)


class _State:
    """llguidance's matcher never sees the stop token: its rollback past one goes a token too far (1.9.1)."""

    def __init__(self, matcher: LLMatcher, stop: np.ndarray[tuple[int], np.dtype[np.intp]]) -> None:
        self._matcher, self._stop = matcher, stop

    def copy(self) -> State:
        return _State(self._matcher.deep_copy(), self._stop)

    def advance(self, token_id: int) -> bool:
        return self._matcher.consume_token(token_id)

    def rollback(self, count: int) -> None:
        if count and not self._matcher.rollback(count):
            raise GrammarFailed(one_line(self._matcher.get_error()))

    def admits(self, token_ids: Sequence[int]) -> int:
        return self._matcher.validate_tokens(list(token_ids))

    def bits(self) -> Bits:
        bits = np.frombuffer(self._matcher.compute_bitmask(), np.uint8)
        if self._matcher.is_error():
            raise GrammarFailed(one_line(self._matcher.get_error()))
        if (bits[self._stop >> 3] >> (self._stop & 7) & 1).any() and not self._matcher.is_accepting():
            raise GrammarFailed("nothing continues the text, and it is not complete")  # an unmasked stop token says so
        return bits

    def forced(self) -> list[int]:
        return self._matcher.compute_ff_tokens()


# -- grammars as llguidance takes them ---------------------------------------------------------------------------------


def _source(grammar: Grammar) -> str:
    match grammar.kind:
        case GrammarKind.JSON_SCHEMA:
            text = "{}" if grammar.text.strip() == "true" else grammar.text  # options need an object to stand in
            try:
                return LLMatcher.grammar_from_json_schema(text, defaults=SEPARATORS)  # type: ignore[arg-type]
            except ValueError as error:
                raise problem(grammar, str(error)) from error
        case GrammarKind.REGEX:
            return LLMatcher.grammar_from_regex(grammar.text)
        case GrammarKind.EBNF:
            try:
                return LLMatcher.grammar_from_lark(any_to_lark(grammar.text))
            except Exception as error:
                raise problem(grammar, str(error)) from error
        case GrammarKind.CHOICES:
            alternatives = " | ".join(json.dumps(choice) for choice in choices(grammar))
            return LLMatcher.grammar_from_lark(f"start: {alternatives}")


def choices(grammar: Grammar) -> list[str]:
    """The texts to choose from."""
    try:
        found = json.loads(grammar.text)
    except (ValueError, RecursionError) as error:
        raise problem(grammar, str(error)) from error
    right = isinstance(found, list) and all(isinstance(choice, str) for choice in found)
    fits = right and 1 <= len(found) <= MAX_CHOICES
    require(fits, grammar.kind.value, shown(grammar.text), _EXPECTED[grammar.kind])
    return list(found)


def problem(grammar: Grammar, says: str) -> FieldError:
    """What is wrong with a grammar, on one line."""
    expected = f"{_EXPECTED[grammar.kind]} ({one_line(says)})"
    return FieldError(grammar.kind.value, shown(grammar.text), expected)


def shown(text: str) -> str:
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"


def one_line(says: str) -> str:
    """An error without line breaks, pictures of the place, or an end."""
    line = re.sub(r"[\s^|]+", " ", says).strip()
    return line if len(line) <= _SAID else f"{line[:_SAID]}…"
