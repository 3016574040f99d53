"""The second backend: it agrees with the first on what may come, as far as both take the grammar."""

from __future__ import annotations

import json
import random
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from paceline.errors import FieldError
from paceline.speculation.grammar import Grammar, GrammarKind
from paceline.speculation.policy import Mode, SpeculationParameters
from paceline.speculation.sampling import SamplingParameters
from tests.checkpoints import write_checkpoint
from tests.in_process import load
from tests.services.test_structured_output import crew, texts
from tests.verifier_service.test_grammar import (
    CHOICES,
    MODEL,
    OBJECT,
    SUM,
    TEXT,
    TOKENIZER,
    VOCABULARY,
    WORD,
    compiler,
    follow,
    next_tokens,
    tokens,
)
from tests.vocabulary import END
from verifier_service.grammar.compiler import GrammarCompiler
from verifier_service.grammar.matcher import Matcher
from verifier_service.grammar.pushdown import Pushdown, installed

__all__ = ["compiler"]

pytestmark = pytest.mark.skipif(not installed(), reason="xgrammar is not installed: pip install 'paceline[xgrammar]'")
ENUM = Grammar(GrammarKind.JSON_SCHEMA, json.dumps({"enum": ["one", {"a": [1, None]}, True]}))


def other(grammar: Grammar) -> Grammar:
    return replace(grammar, backend="xgrammar")


@pytest.mark.parametrize("grammar", [WORD, SUM, CHOICES, ENUM])
def test_both_take_the_same_texts(compiler: GrammarCompiler, grammar: Grammar) -> None:
    """Token by token the first allows no more: where one text must come only the tokenizer's own tokens may spell it,
    which is why the choice of a backend is part of what a text depends on."""
    for seed in range(5):
        draw, path = random.Random(seed), list[int]()
        while True:
            first, second = (next_tokens(follow(compiler, each, path)) for each in (grammar, other(grammar)))
            assert first <= second, path
            further = sorted(first - {END})
            if not further or len(path) == 24:
                break
            path.append(draw.choice(further))
    for seed in range(5):
        draw, path = random.Random(seed), list[int]()
        while (allowed := next_tokens(follow(compiler, other(grammar), path))) != {END} and len(path) < 24:
            path.append(draw.choice(sorted(allowed - {END})))
        if END in allowed:
            assert END in next_tokens(follow(compiler, grammar, tokens(TOKENIZER.decode(path))))


def test_rows_have_masks_of_their_own_paths(compiler: GrammarCompiler) -> None:
    """A tree's masks are those of its paths, each followed alone; rows outside have none."""
    matcher = follow(compiler, other(OBJECT))
    whole = tokens('{"name": 200}')
    masks = matcher.masks([0, *whole, 5], [-1, *range(len(whole)), 0])
    for row in range(len(whole) + 1):
        alone = follow(compiler, other(OBJECT), whole[:row])
        assert set(np.flatnonzero(masks.allowed(row)).tolist()) == next_tokens(alone)
    assert next_tokens(matcher) == next_tokens(follow(compiler, other(OBJECT)))


def test_what_must_come_is_known(compiler: GrammarCompiler) -> None:
    matcher = follow(compiler, other(OBJECT))
    forced = matcher.forced()
    assert forced
    following = Matcher(compiler.compile(other(OBJECT)), forced, VOCABULARY, [END])
    assert END not in next_tokens(following)


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        (GrammarKind.JSON_SCHEMA, "{"),
        (GrammarKind.REGEX, "(a"),
        (GrammarKind.EBNF, "root ::= other"),
        (GrammarKind.CHOICES, "[]"),
    ],
)
def test_a_bad_grammar_is_refused_by_name(compiler: GrammarCompiler, kind: GrammarKind, text: str) -> None:
    with pytest.raises(FieldError) as caught:
        compiler.compile(Grammar(kind, text, "xgrammar"))
    assert caught.value.field == kind.value
    assert "\n" not in str(caught.value)


def test_loading_the_library_is_no_fault_of_the_first_grammar() -> None:
    now = 0.0

    class Slow(Pushdown):
        def load(self) -> None:
            nonlocal now
            super().load()
            now += 60.0

    compiler = GrammarCompiler([Slow(TEXT, VOCABULARY, MODEL.stop_token_ids)], MODEL, lambda: now)
    assert compiler.compile(other(WORD))
    assert compiler.fingerprint.startswith("xgrammar ")


@pytest.mark.parametrize("grammar", [WORD, OBJECT])
def test_the_same_text_in_every_mode(tmp_path: Path, compiler: GrammarCompiler, grammar: Grammar) -> None:
    path = write_checkpoint(tmp_path, vocab_size=VOCABULARY, eos_token_id=END)
    target, sampling = load(path), SamplingParameters(40, 1.0, grammar=other(grammar))
    _, expected = texts(target, compiler, [], sampling, SpeculationParameters(mode=Mode.OFF))
    for mode in (Mode.LOCKSTEP, Mode.OVERLAPPED):
        for kinds in ([], crew(path)):
            assert texts(target, compiler, kinds, sampling, SpeculationParameters(mode=mode))[1] == expected
    finished = [text[:-1] for text in expected if text[-1] == END]
    assert finished
    for text in finished:
        assert END in next_tokens(follow(compiler, grammar, tokens(TOKENIZER.decode(text))))
