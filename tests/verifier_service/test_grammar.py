"""What may come next is what the grammar says, row by row, whatever was tried before."""

from __future__ import annotations

import itertools
import json
import random
import threading
from collections.abc import Sequence

import numpy as np
import pytest
from tokenizers import Tokenizer

from paceline.errors import FailedPrecondition, FieldError, PacelineError
from paceline.messages import ModelInfo, TokenizerFiles
from paceline.speculation.grammar import Grammar, GrammarKind
from paceline.speculation.sampling import SamplingParameters
from tests.vocabulary import END, SIZE, json_tokenizer
from verifier_service.grammar import compiler as compiler_module
from verifier_service.grammar.backend import GrammarFailed
from verifier_service.grammar.compiler import GrammarCompiler, open_compiler
from verifier_service.grammar.matcher import Matcher

VOCABULARY = SIZE + 8
"""The model's: padded beyond the tokenizer's."""
MODEL = ModelInfo("m", VOCABULARY, 512, "", (END,))
TEXT = json_tokenizer()
TOKENIZER = Tokenizer.from_str(TEXT)

OBJECT = Grammar(
    GrammarKind.JSON_SCHEMA,
    json.dumps(
        {
            "type": "object",
            "properties": {
                "name": {"anyOf": [{"type": "integer", "minimum": -5, "maximum": 200}, {"type": "string"}]},
                "items": {"type": "array", "items": {"enum": ["a", "bb", 1]}, "maxItems": 2},
            },
            "required": ["name"],
            "additionalProperties": False,
        }
    ),
)
TREE = Grammar(GrammarKind.JSON_SCHEMA, '{"type": "array", "items": {"$ref": "#"}, "maxItems": 3}')
WORD = Grammar(GrammarKind.REGEX, "(ab|c)+[0-9]{2}")
SUM = Grammar(GrammarKind.EBNF, 'root ::= term ("+" term)*\nterm ::= [0-9]+ | "(" root ")"')
LARK = Grammar(GrammarKind.EBNF, 'start: pair ("," pair)*\npair: "(" pair? ")"')
CHOICES = Grammar(GrammarKind.CHOICES, json.dumps(["yes", "no", "né\n"]))
KINDS = [OBJECT, TREE, WORD, SUM, LARK, CHOICES]


@pytest.fixture(scope="module")
def compiler() -> GrammarCompiler:
    return open_compiler(MODEL, TokenizerFiles("", TEXT.encode(), "", {}))


def tokens(text: str) -> list[int]:
    return list(TOKENIZER.encode(text).ids)


def follow(compiler: GrammarCompiler, grammar: Grammar, token_ids: Sequence[int] = ()) -> Matcher:
    return Matcher(compiler.compile(grammar), token_ids, VOCABULARY, MODEL.stop_token_ids)


def next_tokens(matcher: Matcher) -> set[int]:
    return set(np.flatnonzero(matcher.masks([1], [-1]).allowed(0)).tolist())


@pytest.mark.parametrize(
    ("grammar", "whole", "outside"),
    [
        (OBJECT, ['{"name": 200}', '{"name": "b\\n", "items": ["bb", 1]}'], ['{"name": 201', '{"items', '{"name":1']),
        (TREE, ["[]", "[[], [[[]]]]"], ["[1", "[[], [], [], ["]),
        (WORD, ["ab12", "cabc00"], ["b", "ab1a", "ab123"]),
        (SUM, ["1", "(1+(2))+33"], ["+", "1+)", "()"]),
        (LARK, ["()", "(()),()"], [")", "(,", "()()"]),
        (CHOICES, ["yes", "né\n"], ["ye no", "yess", "x"]),
    ],
)
def test_every_kind_takes_what_it_describes_and_nothing_else(
    compiler: GrammarCompiler, grammar: Grammar, whole: list[str], outside: list[str]
) -> None:
    for text in whole:
        assert follow(compiler, grammar).admits([*tokens(text), END])
        assert END in next_tokens(follow(compiler, grammar, tokens(text)))
    for text in outside:
        assert not follow(compiler, grammar).admits(tokens(text))


@pytest.mark.parametrize("grammar", KINDS)
def test_each_row_of_a_tree_has_the_mask_of_its_own_path(compiler: GrammarCompiler, grammar: Grammar) -> None:
    """Held against a matcher that has followed that path and nothing else; rows that left the grammar have none."""
    random_ = random.Random(3)
    matcher, text = follow(compiler, grammar), list[int]()
    for _ in range(12):
        token_ids, parents, paths = [1], [-1], [text]
        for _ in range(14):
            parent = random_.randrange(len(token_ids))
            here = paths[parent]
            may = list(next_tokens(follow(compiler, grammar, here))) if follows(compiler, grammar, here) else [1]
            token_ids.append(random_.choice(may) if random_.random() < 0.8 else random_.randrange(VOCABULARY))
            parents.append(parent)
            paths.append([*here, token_ids[-1]])
        masks = matcher.masks(token_ids, parents)
        for row, path in enumerate(paths):
            assert (row in masks.rows) == follows(compiler, grammar, path)
            if row in masks.rows:
                expected = follow(compiler, grammar, path).masks([1], [-1]).allowed(0)
                assert np.array_equal(masks.allowed(row), expected)
            else:
                with pytest.raises(GrammarFailed):
                    masks.allowed(row)
        step = [token_id for token_id in random_.sample(sorted(next_tokens(matcher)), 1) if token_id != END]
        matcher.commit(step)
        text = [*text, *step]


def follows(compiler: GrammarCompiler, grammar: Grammar, path: Sequence[int]) -> bool:
    return END not in path and follow(compiler, grammar).admits(path)


def test_a_complete_text_leaves_only_the_stop_token(compiler: GrammarCompiler) -> None:
    assert next_tokens(follow(compiler, CHOICES, tokens("yes"))) == {END}
    growing = follow(compiler, WORD, tokens("ab1"))
    assert END not in next_tokens(growing)


def test_an_ignored_stop_token_may_come_only_where_nothing_else_may(compiler: GrammarCompiler) -> None:
    more = Matcher(compiler.compile(SUM), tokens("1"), VOCABULARY, (END,), ignore_eos=True)
    assert END not in next_tokens(more)
    done = Matcher(compiler.compile(CHOICES), tokens("no"), VOCABULARY, (END,), ignore_eos=True)
    assert next_tokens(done) == {END}


def test_what_must_come_is_known_beforehand(compiler: GrammarCompiler) -> None:
    matcher = follow(compiler, OBJECT)
    forced = matcher.forced()
    assert TOKENIZER.decode(forced).startswith('{"name":')
    assert matcher.admits(forced)
    matcher.commit(forced)
    assert follow(compiler, OBJECT, [*forced, *tokens(" 1")]).forced() == []


def test_ids_beyond_the_tokenizers_never_come(compiler: GrammarCompiler) -> None:
    anything = follow(compiler, Grammar(GrammarKind.REGEX, "(?s).*"))
    allowed = next_tokens(anything)
    assert len(allowed) > SIZE / 2
    assert max(allowed) < SIZE


def test_a_text_that_no_token_continues_fails_and_does_not_end(compiler: GrammarCompiler) -> None:
    """The grammar goes on with a special token in the midst of the text, which would end it."""
    cut = follow(compiler, Grammar(GrammarKind.EBNF, 'start: "a" <|end|> "b"'), tokens("a"))
    with pytest.raises(GrammarFailed, match="not complete"):
        cut.masks([1], [-1]).allowed(0)


@pytest.mark.parametrize(
    ("kind", "text", "says"),
    [
        (GrammarKind.JSON_SCHEMA, '{"type": "objekt"}', 'json_schema = \'{"type": "objekt"}\': .*Invalid type: objekt'),
        (GrammarKind.JSON_SCHEMA, '{"type": ', "json_schema = .*EOF while parsing"),
        (GrammarKind.JSON_SCHEMA, "[]", "json_schema = .*object schema"),
        (GrammarKind.JSON_SCHEMA, "false", "json_schema = .*object schema"),
        (GrammarKind.JSON_SCHEMA, '{"minimum": 5, "maximum": 4, "type": "integer"}', "json_schema = .*Unsatisfiable"),
        (GrammarKind.JSON_SCHEMA, '{"not": {"type": "string"}}', 'json_schema = .*Unimplemented keys: \\["not"\\]'),
        (GrammarKind.JSON_SCHEMA, '{"$ref": "#/nowhere"}', "json_schema = .*nowhere"),
        (GrammarKind.REGEX, "(a", "regex = '\\(a': .*unclosed group"),
        (GrammarKind.REGEX, "(?=a)b", "regex = .*look-around"),
        (GrammarKind.REGEX, "[^\\s\\S]", "regex = "),
        (GrammarKind.EBNF, "root ::= x", "ebnf = 'root ::= x': .*'x' not found"),
        (GrammarKind.EBNF, "start: x", "ebnf = 'start: x': .*unknown name"),
        (GrammarKind.CHOICES, "[]", "choices = '\\[\\]': expected a JSON array of 1 to"),
        (GrammarKind.CHOICES, '["a", 1]', "choices = "),
        (GrammarKind.CHOICES, "[", "choices = "),
        (GrammarKind.CHOICES, "[" * 100_000, "choices = "),
    ],
)
def test_a_bad_grammar_is_refused_by_name_on_one_short_line(
    compiler: GrammarCompiler, kind: GrammarKind, text: str, says: str
) -> None:
    with pytest.raises(FieldError, match=says) as refused:
        compiler.compile(Grammar(kind, text))
    assert "\n" not in str(refused.value)
    long = Grammar(kind, text + " " * 5000)
    with pytest.raises(FieldError) as refused:
        compiler.compile(long)
    assert len(str(refused.value)) < 600


def test_an_unknown_backend_and_a_target_without_tokenizer_are_refused(compiler: GrammarCompiler) -> None:
    with pytest.raises(FieldError, match="backend = 'magic': expected one of llguidance"):
        compiler.check(Grammar(GrammarKind.REGEX, "a", "magic"))
    assert compiler.fingerprint.startswith("llguidance 1.")
    bare = open_compiler(MODEL, TokenizerFiles("", b"", "", {}))
    assert bare.fingerprint == ""
    with pytest.raises(FailedPrecondition, match=r"tokenizer\.json"):
        bare.check(WORD)


def test_the_cache_is_bounded_and_forgets_what_was_used_longest_ago(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiler_module, "CACHED", 3)
    compiler = open_compiler(MODEL, TokenizerFiles("", TEXT.encode(), "", {}))
    first = compiler.compile(WORD)
    for index in range(10):
        compiler.compile(Grammar(GrammarKind.REGEX, f"a{index}"))
        assert compiler.compile(WORD) is first
        with pytest.raises(FieldError):
            compiler.compile(Grammar(GrammarKind.REGEX, f"({index}"))
    assert len(compiler) == 3


def test_a_grammar_that_takes_too_long_is_refused() -> None:
    ticks = iter(range(0, 1000, 50))
    files = TokenizerFiles("", TEXT.encode(), "", {})
    compiler = open_compiler(MODEL, files, lambda: float(next(ticks)))
    with pytest.raises(FieldError, match=r"regex = .* within 2.0 s \(it took 50.0 s\)"):
        compiler.compile(WORD)


def test_starting_follows_what_is_committed_and_reports_what_is_wrong(compiler: GrammarCompiler) -> None:
    resumed = start(compiler, CHOICES, "ye")
    assert isinstance(resumed, Matcher)
    assert next_tokens(resumed) == set(tokens("s"))
    assert "token_ids = '3 tokens'" in str(start(compiler, CHOICES, "yex"))
    assert "regex = '('" in str(start(compiler, Grammar(GrammarKind.REGEX, "("), ""))


@pytest.mark.parametrize("name", ["r{}", "R{}"])
def test_a_grammar_as_deep_as_one_may_be_overflows_no_stack(compiler: GrammarCompiler, name: str) -> None:
    """Rules that stand for rules, and terminals for terminals: with a usual stack some 3,000 end the process."""
    names = [name.format(index) for index in range(18_000)]
    rules = [f"{rule}: {next_}" for rule, next_ in itertools.pairwise(names)]
    text = "\n".join([f"start: {names[0]}", *rules, f'{names[-1]}: "yes"'])
    matcher = start(compiler, Grammar(GrammarKind.EBNF, text), "ye")
    assert isinstance(matcher, Matcher)
    assert next_tokens(matcher) == set(tokens("s"))


def start(compiler: GrammarCompiler, grammar: Grammar, text: str) -> Matcher | FieldError | PacelineError:
    """What comes of a grammar in the compiler's own threads."""
    came, done = list[Matcher | FieldError | PacelineError](), threading.Event()

    def started(outcome: Matcher | FieldError | PacelineError) -> None:
        came.append(outcome)
        done.set()

    compiler.start(SamplingParameters(grammar=grammar), tokens(text), started)
    assert done.wait(10)
    return came[0]
