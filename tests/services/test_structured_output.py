"""Nothing outside a session's grammar is ever emitted, whoever drafts, and it is the same text in every company."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import jsonschema
import pytest
from tokenizers import Tokenizer

from drafter_service.drafters.base import DraftKind
from drafter_service.drafters.model import ModelDrafter
from drafter_service.drafters.ngram import NgramDrafter
from drafter_service.session import DraftSession
from paceline.emulation import SyntheticAcceptance
from paceline.engine.batch import Rows
from paceline.engine.runner import Logits, ModelRunner
from paceline.messages import (
    AbortSession,
    ChangeSession,
    DraftUpdate,
    FinishReason,
    Join,
    ModelInfo,
    OpenSession,
    Status,
    TokenizerFiles,
    drafter_key,
)
from paceline.speculation.grammar import Grammar, GrammarKind
from paceline.speculation.noise import noise_key
from paceline.speculation.policy import Mode, SpeculationParameters
from paceline.speculation.prefix import prefix_hash
from paceline.speculation.sampling import SamplingParameters
from paceline.testing.scripts import SURE, GuessingKind
from tests.checkpoints import write_checkpoint
from tests.in_process import SECRET, InProcess, load, make_drafter
from tests.services.test_verifier import Listener
from tests.vocabulary import END, SIZE, json_tokenizer
from verifier_service.grammar.backend import Compiled
from verifier_service.grammar.compiler import GrammarCompiler, open_compiler
from verifier_service.grammar.guidance import Guidance
from verifier_service.grammar.matcher import SOURCE, Matcher
from verifier_service.table import Limits

TEXT = json_tokenizer()
TOKENIZER = Tokenizer.from_str(TEXT)
PROMPT = list(TOKENIZER.encode("value: ").ids)
VOCABULARY = SIZE + 8
MODEL = ModelInfo("target", VOCABULARY, 512, "", (END,))
LENGTH, SEEDS = 40, range(3)
SCHEMAS = [
    {
        "type": "object",
        "properties": {
            "name": {"type": "string", "maxLength": 5},
            "items": {"type": "array", "items": {"anyOf": [{"type": "integer"}, {"type": "null"}]}, "maxItems": 2},
            "done": {"type": "boolean"},
        },
        "required": ["name", "items", "done"],
        "additionalProperties": False,
    },
    {
        "$defs": {
            "list": {
                "type": "object",
                "properties": {"value": {"enum": [1, "two"]}, "next": {"$ref": "#/$defs/list"}},
                "required": ["value"],
                "additionalProperties": False,
            }
        },
        "$ref": "#/$defs/list",
    },
]
GRAMMARS = [
    *(Grammar(GrammarKind.JSON_SCHEMA, json.dumps(schema)) for schema in SCHEMAS),
    Grammar(GrammarKind.REGEX, "(yes|no|abc)( [0-9]{2}){1,3}"),
    Grammar(GrammarKind.EBNF, 'root ::= "(" (root | "abc") ("," root)? ")"'),
    Grammar(GrammarKind.CHOICES, '["value one", "value two", "null"]'),
]
YES = Grammar(GrammarKind.CHOICES, '["yes", "no"]')
CUT = Grammar(GrammarKind.EBNF, 'start: "a" <|end|> "b"')
OFF = SpeculationParameters(mode=Mode.OFF)


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_checkpoint(tmp_path_factory.mktemp("speaks"), vocab_size=VOCABULARY, eos_token_id=END)


@pytest.fixture(scope="module")
def target(path: Path) -> ModelRunner:
    return load(path)


@pytest.fixture(scope="module")
def compiler() -> GrammarCompiler:
    return open_compiler(MODEL, TokenizerFiles("", TEXT.encode(), "", {}))


class Whole(GuessingKind):
    """Knows the text, and goes on where it has ended."""

    name = "whole"

    def __init__(self, text: Sequence[int]) -> None:
        super().__init__(VOCABULARY)
        self._text = [*text, 5, END, 6, 7]

    def growable(self, session: DraftSession) -> bool:
        return session.tree.size == 0

    def grow(self, sessions: Sequence[DraftSession]) -> None:
        for session in sessions:
            node = session.tree.root
            for token_id in self._text[len(session.tokens) - len(PROMPT) :]:
                node = session.add(node, token_id, 0.0)


def crew(path: Path) -> list[DraftKind]:
    return [ModelDrafter(load(path)), NgramDrafter(), GuessingKind(64, SURE)]


def wait(world: InProcess) -> None:
    """Until no grammar is being compiled."""
    until = time.monotonic() + 30
    while len(world.verifier._openings):
        assert time.monotonic() < until
        time.sleep(1e-3)


def texts(
    target: ModelRunner,
    compiler: GrammarCompiler,
    kinds: Sequence[DraftKind],
    sampling: SamplingParameters,
    speculation: SpeculationParameters,
) -> tuple[InProcess, list[list[int]]]:
    """Of one session for each seed, together."""
    drafters = [make_drafter(kind, VOCABULARY, f"{kind.name}-{i}") for i, kind in enumerate(kinds)]
    world = InProcess(target, drafters, compiler=compiler)
    for seed in SEEDS:
        world.open(str(seed), PROMPT, sampling, speculation, seed)
    wait(world)
    world.run()
    return world, [world.recorder.tokens[str(seed)] for seed in SEEDS]


def assert_inside(compiler: GrammarCompiler, grammar: Grammar, text: Sequence[int], finished: FinishReason) -> None:
    """Every token was allowed; what was finished is complete."""
    stopped = finished is FinishReason.STOP
    assert (text[-1] == END) == stopped
    body = text[:-1] if stopped else text
    assert END not in body
    matcher = Matcher(compiler.compile(grammar), body, VOCABULARY, (END,))
    assert not stopped or matcher.masks([1], [-1]).allowed(0)[END]
    if stopped and grammar.kind is GrammarKind.JSON_SCHEMA:
        jsonschema.validate(json.loads(TOKENIZER.decode(body)), json.loads(grammar.text))
    if stopped and grammar.kind is GrammarKind.CHOICES:
        assert TOKENIZER.decode(body) in json.loads(grammar.text)


@pytest.mark.parametrize("temperature", [0.0, 1.0])
@pytest.mark.parametrize("grammar", GRAMMARS)
def test_the_text_is_inside_and_the_same_in_every_mode_and_company(
    path: Path, target: ModelRunner, compiler: GrammarCompiler, grammar: Grammar, temperature: float
) -> None:
    sampling = SamplingParameters(LENGTH, temperature, grammar=grammar)
    alone, expected = texts(target, compiler, [], sampling, OFF)
    for seed, text in zip(SEEDS, expected, strict=True):
        assert_inside(compiler, grammar, text, alone.recorder.finished[str(seed)])
    for mode in (Mode.LOCKSTEP, Mode.OVERLAPPED):
        for kinds in ([], crew(path)):
            _, found = texts(target, compiler, kinds, sampling, SpeculationParameters(mode=mode))
            assert found == expected


def test_what_is_drafted_past_the_end_is_dropped(target: ModelRunner, compiler: GrammarCompiler) -> None:
    """By drafters who know the text, for grammars that end and for such as could go on."""
    for grammar in (YES, GRAMMARS[2]):
        sampling = SamplingParameters(LENGTH, grammar=grammar)
        _, expected = texts(target, compiler, [], sampling, OFF)
        world = InProcess(target, [make_drafter(Whole(expected[0]), VOCABULARY)], compiler=compiler)
        speculation = SpeculationParameters(mode=Mode.LOCKSTEP, draft_depth=32, max_draft_nodes=32)
        world.open("s", PROMPT, sampling, speculation)
        wait(world)
        world.run()
        assert world.recorder.tokens["s"] == expected[0]
        overlap = world.recorder.last["s"].overlap
        assert overlap is not None
        assert overlap.steps < len(expected[0])
        assert overlap.verified_nodes <= len(expected[0])


def test_what_must_come_is_drafted_though_nobody_drafts(target: ModelRunner, compiler: GrammarCompiler) -> None:
    for mode in (Mode.OVERLAPPED, Mode.LOCKSTEP):
        sampling = SamplingParameters(LENGTH, grammar=GRAMMARS[0])
        world, found = texts(target, compiler, [], sampling, SpeculationParameters(mode=mode))
        overlap = world.recorder.last["0"].overlap
        assert overlap is not None
        assert overlap.steps < len(found[0])
        (grammar,) = overlap.drafters
        assert (grammar.drafter_id, grammar.drafting) == (SOURCE, True)
        assert grammar.proposed >= grammar.verified >= grammar.accepted > 0
    world, _ = texts(target, compiler, [], sampling, replace(OFF, max_draft_nodes=0))
    assert world.verifier._table.get("0") is None


@pytest.mark.parametrize("ignore_eos", [False, True])
def test_the_grammar_s_end_ends_the_text_whatever_else_is_asked(
    target: ModelRunner, compiler: GrammarCompiler, *, ignore_eos: bool
) -> None:
    sampling = SamplingParameters(LENGTH, grammar=YES, ignore_eos=ignore_eos, min_tokens=LENGTH)
    world, found = texts(target, compiler, [], sampling, OFF)
    assert {TOKENIZER.decode(text[:-1]) for text in found} <= {"yes", "no"}
    assert {text[-1] for text in found} == {END}
    assert set(world.recorder.finished.values()) == {FinishReason.STOP}


def test_an_ignored_stop_token_keeps_a_text_growing_that_can_grow(
    target: ModelRunner, compiler: GrammarCompiler
) -> None:
    sampling = SamplingParameters(LENGTH, grammar=Grammar(GrammarKind.REGEX, "a+"), ignore_eos=True)
    world, found = texts(target, compiler, [], sampling, OFF)
    assert set(world.recorder.finished.values()) == {FinishReason.LENGTH}
    assert all(set(TOKENIZER.decode(text)) == {"a"} for text in found)


def test_a_session_that_is_taken_over_goes_on_inside(target: ModelRunner, compiler: GrammarCompiler) -> None:
    sampling = SamplingParameters(LENGTH, grammar=GRAMMARS[0])
    _, (expected, *_) = texts(target, compiler, [], sampling, OFF)
    for committed in (1, 7, len(expected) - 1):
        world = InProcess(target, compiler=compiler)
        tokens = (*PROMPT, *expected[:committed])
        key = noise_key(0, 0, PROMPT)
        world.verifier.command(
            OpenSession("s", 2, tokens, len(PROMPT), sampling, SpeculationParameters(), key, SECRET), world.recorder
        )
        wait(world)
        world.run()
        assert world.recorder.tokens["s"] == expected[committed:]


def test_chunks_and_preemptions_leave_the_text_alone(path: Path, compiler: GrammarCompiler) -> None:
    sampling = SamplingParameters(100, grammar=Grammar(GrammarKind.REGEX, "([a-z]{3}-)+"), ignore_eos=True)
    prompts = [[seed, *PROMPT * 8] for seed in range(1, 5)]
    found = {}
    for cache_tokens, limits in ((8192, Limits()), (192, Limits(prefill_chunk=16))):
        world = InProcess(
            load(path, cache_tokens), [make_drafter(GuessingKind(64, SURE), VOCABULARY)], limits, compiler=compiler
        )
        for index, prompt in enumerate(prompts):
            world.open(str(index), prompt, sampling, seed=index)
        wait(world)
        sessions = list(world.verifier._table)
        world.run()
        preemptions = sum(session.stay.preemptions for session in sessions)
        found[cache_tokens] = world.recorder.tokens
    assert preemptions > 0
    assert found[192] == found[8192]


def test_a_text_that_nothing_continues_ends_with_an_error_and_alone(
    target: ModelRunner, compiler: GrammarCompiler
) -> None:
    world = InProcess(target, compiler=compiler)
    world.open("cut", PROMPT, SamplingParameters(LENGTH, grammar=CUT))
    world.open("fine", PROMPT, SamplingParameters(LENGTH, grammar=YES))
    wait(world)
    world.run()
    assert world.recorder.finished == {"cut": FinishReason.ERROR, "fine": FinishReason.STOP}
    assert "not complete" in world.recorder.last["cut"].detail
    assert TOKENIZER.decode(world.recorder.tokens["cut"]) == "a"


def test_an_abort_in_flight_leaves_nothing_behind(path: Path, compiler: GrammarCompiler) -> None:
    target = load(path)
    world, forward = InProcess(target, compiler=compiler), target.forward
    world.open("s", PROMPT, SamplingParameters(LENGTH, grammar=GRAMMARS[0]))
    wait(world)

    def abort(groups: Sequence[Rows]) -> list[Logits]:
        world.verifier.command(AbortSession("s", 1), world.recorder)
        return forward(groups)

    target.forward = abort  # type: ignore[method-assign]
    world.run()
    assert world.recorder.finished["s"] is FinishReason.ABORT
    assert target.cache.pool.free == target.cache.pool.num_blocks


# -- before a session is open ------------------------------------------------------------------------------------------


class Slow(Guidance):
    """Compiles when it is told to."""

    def __init__(self) -> None:
        super().__init__(TEXT, VOCABULARY, (END,))
        self.go, self.compiling = threading.Event(), threading.Event()

    def compile(self, grammar: Grammar) -> Compiled:
        self.compiling.set()
        assert self.go.wait(30)
        return super().compile(grammar)


@pytest.fixture
def slow() -> Slow:
    return Slow()


@pytest.fixture
def waiting(target: ModelRunner, slow: Slow) -> InProcess:
    """A verifier with a session whose grammar is being compiled."""
    world = InProcess(target, compiler=GrammarCompiler([slow], MODEL))
    world.open("s", PROMPT, SamplingParameters(LENGTH, grammar=YES))
    assert slow.compiling.wait(30)
    return world


def test_nobody_waits_for_a_grammar(waiting: InProcess, slow: Slow) -> None:
    waiting.open("other", PROMPT, SamplingParameters(5))
    while "other" not in waiting.recorder.finished:
        waiting.verifier.step()
    assert waiting.verifier.busy
    slow.go.set()
    wait(waiting)
    waiting.run()
    assert waiting.recorder.finished["s"] is FinishReason.STOP


def test_a_session_is_aborted_while_its_grammar_is_compiled(waiting: InProcess, slow: Slow) -> None:
    waiting.verifier.command(AbortSession("s", 7), waiting.recorder)  # another epoch's
    assert waiting.verifier.busy
    waiting.verifier.command(AbortSession("s", 1), waiting.recorder)
    assert waiting.recorder.finished["s"] is FinishReason.ABORT
    assert not waiting.verifier.busy
    slow.go.set()
    compiler = waiting.verifier._compiler
    assert compiler is not None
    compiler._threads.shutdown()
    assert not waiting.verifier.busy
    assert not waiting.verifier.step()


def test_a_lost_gateway_waits_for_no_grammar(waiting: InProcess, slow: Slow) -> None:
    waiting.verifier.gateway_lost(waiting.recorder)
    assert not waiting.verifier.busy
    slow.go.set()


def test_what_is_said_meanwhile_holds_once_it_is_open(waiting: InProcess, slow: Slow) -> None:
    waiting.verifier.command(ChangeSession("s", Mode.OFF, 3), waiting.recorder)
    waiting.open("s", PROMPT, SamplingParameters(5))
    assert waiting.recorder.rejected["s"].status is Status.ABORTED, "it is open already"
    slow.go.set()
    wait(waiting)
    session = waiting.verifier._table.get("s")
    assert session is not None
    assert (session.mode, session.max_draft_nodes) == (Mode.OFF, 3)


def test_a_bad_grammar_is_refused_by_name_and_the_others_live(target: ModelRunner, compiler: GrammarCompiler) -> None:
    world = InProcess(target, compiler=compiler)
    bad = {
        "schema": (Grammar(GrammarKind.JSON_SCHEMA, '{"type": "objekt"}'), "json_schema = "),
        "regex": (Grammar(GrammarKind.REGEX, "(a"), "regex = '(a'"),
        "ebnf": (Grammar(GrammarKind.EBNF, "root ::= x"), "ebnf = 'root ::= x'"),
        "choices": (Grammar(GrammarKind.CHOICES, "{}"), "choices = '{}'"),
        "backend": (Grammar(GrammarKind.REGEX, "a", "magic"), "backend = 'magic'"),
    }
    world.open("good", PROMPT, SamplingParameters(LENGTH, grammar=YES))
    for name, (grammar, _) in bad.items():
        world.open(name, PROMPT, SamplingParameters(LENGTH, grammar=grammar))
    wait(world)
    world.run()
    assert world.recorder.finished == {"good": FinishReason.STOP}
    for name, (_, says) in bad.items():
        rejection = world.recorder.rejected[name]
        assert rejection.status is Status.INVALID_ARGUMENT
        assert rejection.detail.startswith(says)


@pytest.mark.parametrize(("text", "synthetic"), [("", None), (TEXT, "0.8")])
def test_targets_that_cannot_be_held_to_a_grammar_say_so(target: ModelRunner, text: str, synthetic: str | None) -> None:
    compiler = open_compiler(MODEL, TokenizerFiles("", text.encode(), "", {}))
    acceptance = None if synthetic is None else SyntheticAcceptance.parse(synthetic)
    world = InProcess(target, synthetic=acceptance, compiler=compiler)
    world.open("s", PROMPT, SamplingParameters(LENGTH, grammar=YES))
    assert world.recorder.rejected["s"].status is Status.FAILED_PRECONDITION
    assert "grammar" in world.recorder.rejected["s"].detail


def test_no_drafter_goes_by_the_grammar_s_name(target: ModelRunner, compiler: GrammarCompiler) -> None:
    world, link = InProcess(target, compiler=compiler), Listener()
    world.open("s", PROMPT, SamplingParameters(LENGTH, grammar=YES))
    wait(world)
    key = drafter_key(SECRET, "s", SOURCE, 1)
    join = Join("s", 1, SOURCE, 5, key, len(PROMPT), prefix_hash(tuple(PROMPT)))
    world.verifier.update(DraftUpdate(joins=(join,)), link)
    assert [status for status, _ in link.refusals] == [Status.PERMISSION_DENIED]
