"""The pieces of the HTTP face that need no fleet."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer
from tokenizers.decoders import ByteFallback, Fuse, Replace, Sequence
from tokenizers.models import BPE

from gateway.http.choices import Batch, merged
from gateway.http.completions import CompletionRequest
from gateway.http.encoding import dumps
from gateway.http.errors import failure_of
from gateway.http.grammars import grammar_of
from gateway.http.resuming import Mark, event_id, parse_event_id
from gateway.http.speculation import speculation_body
from gateway.http.usage import common_length, metrics_body, usage_body
from gateway.http.vocabulary import Vocabulary
from gateway.text import TextCodec
from paceline.errors import DataLoss, FieldError, PacelineError, ResourceExhausted, Unavailable
from paceline.messages import (
    Chunk,
    Completion,
    FinishReason,
    NodesArrived,
    OverlapStatistics,
    PhaseEnded,
    SessionPlaced,
    StepDecided,
    TokenizerFiles,
    Usage,
)
from paceline.speculation.grammar import Grammar, GrammarKind
from paceline.speculation.policy import Mode
from tests.gateway.test_text import TOKENIZER, codec

TOKENS = st.lists(st.integers(0, 3), max_size=12)


def plain_common_length(first: list[int], second: list[int]) -> int:
    row = [0] * (len(second) + 1)
    for one in first:
        above, row = row, [0]
        for index, other in enumerate(second):
            row.append(above[index] + 1 if one == other else max(above[index + 1], row[-1]))
    return row[-1]


@given(TOKENS, TOKENS)
def test_the_longest_common_subsequence(first: list[int], second: list[int]) -> None:
    assert common_length(first, second) == plain_common_length(first, second)


def completion(prompt: int, tokens: int, overlap: OverlapStatistics) -> Completion:
    return Completion(FinishReason.LENGTH, Usage(prompt, tokens, 1), overlap, Mode.OVERLAPPED, "exact", 0.5, 0.25)


def test_a_prompt_counts_once_and_choices_add_up() -> None:
    first = OverlapStatistics(steps=3, verified_nodes=8, accepted_nodes=4, acceptance_histogram=(1, 1, 0, 1))
    second = OverlapStatistics(steps=1, verified_nodes=2, acceptance_histogram=(1,))
    done = [completion(prompt, 5, overlap) for prompt in (7, 9) for overlap in (first, second)]
    assert usage_body(done, 2, 3, 8) == {
        "prompt_tokens": 16,
        "completion_tokens": 20,
        "total_tokens": 36,
        "prompt_tokens_details": {"cached_tokens": 2},
        "completion_tokens_details": {"accepted_prediction_tokens": 3, "rejected_prediction_tokens": 5},
    }
    assert metrics_body(done[:2], 7, 12) == {
        "speculative_decoding": {
            "mean_acceptance_length": 2.0,
            "draft_acceptance_rate": 0.4,
            "acceptance_histogram": [2, 1, 0, 1],
            "num_spec_steps": 4,
            "num_accepted_draft_tokens": 4,
            "num_draft_tokens": 10,
            "num_spec_tokens": 12,
        },
        "mode": "overlapped",
        "exactness": "exact",
        "seed": 7,
        "ttft_seconds": 0.5,
        "tpot_seconds": 0.25,
    }


def test_events_as_the_page_reads_them() -> None:
    arrival = NodesArrived(0.1234567, "draft", (1, 2), (0, 1), (5, 6), (9, 10), (-0.5, -1.0), 0.25, 0.5, -0.5, 0.1)
    step = StepDecided(0.1, 0.2, 0.3, (1, 2), (1,), (5, 8), 4)
    placed, phase = SessionPlaced("big", 2, 1000.5), PhaseEnded("prefill", "verifier", 0.0, 0.05, 7)
    events, drafters = (placed, phase, arrival, step), (("draft",), ())
    chunk = Chunk("s", "ab", (5, 8), piece_lengths=(2, 0), drafters=drafters, events=events)
    assert speculation_body(chunk) == {
        "tokens": [{"id": 5, "text": "ab", "drafters": ["draft"]}, {"id": 8, "text": "", "drafters": []}],
        "events": [
            {"type": "placed", "verifier": "big", "epoch": 2, "opened": 1000.5},
            {"type": "phase", "name": "prefill", "role": "verifier", "started": 0.0, "ended": 0.05, "tokens": 7},
            {
                "type": "arrival", "at": 0.123457, "drafter": "draft",
                "nodes": [[1, 0, 5, 9, -0.5], [2, 1, 6, 10, -1.0]], "idle": 0.25, "busy": 0.5,
                "grown_from": -0.5, "sent": 0.1,
            },
            {
                "type": "step", "rooted": 0.1, "launched": 0.2, "decided": 0.3, "verified": [1, 2], "accepted": [1],
                "token_ids": [5, 8], "position": 4,
            },
        ],
    }  # fmt: skip


@given(st.text(max_size=30))
def test_tokens_spell_the_text(text: str) -> None:
    vocabulary = Vocabulary(codec())
    token_ids = TOKENIZER.encode(text).ids
    assert b"".join(vocabulary.content(token_id) for token_id in token_ids) == text.encode()


def test_tokens_of_vocabularies_with_byte_fallback() -> None:
    words = {"<0xF0>": 0, "\u2581the": 1, "x": 2}
    tokenizer = Tokenizer(BPE(words, [], byte_fallback=True))
    tokenizer.decoder = Sequence([Replace("\u2581", " "), ByteFallback(), Fuse()])
    vocabulary = Vocabulary(TextCodec(TokenizerFiles("hash", tokenizer.to_str().encode(), "", {})))
    assert [vocabulary.content(token_id) for token_id in (0, 1, 2)] == [b"\xf0", b" the", b"x"]
    assert [vocabulary.text(token_id) for token_id in (0, 1, 2)] == ["bytes:\\xf0", " the", "x"]


SCHEMA = {"type": "object", "properties": {"a": {"type": "integer"}}}
GRAMMARS = {
    "response_format": (
        {"type": "json_schema", "json_schema": {"name": "x", "schema": SCHEMA, "strict": True}},
        Grammar(GrammarKind.JSON_SCHEMA, json.dumps(SCHEMA)),
    ),
    "structured_outputs": ({"choice": ["a", "b"]}, Grammar(GrammarKind.CHOICES, '["a", "b"]')),
    "guided_json": (SCHEMA, Grammar(GrammarKind.JSON_SCHEMA, json.dumps(SCHEMA))),
    "guided_regex": ("a+", Grammar(GrammarKind.REGEX, "a+")),
    "guided_grammar": ('root ::= "a"', Grammar(GrammarKind.EBNF, 'root ::= "a"')),
}


@pytest.mark.parametrize("field", GRAMMARS)
def test_ways_to_ask_for_structure(field: str) -> None:
    value, grammar = GRAMMARS[field]
    assert grammar_of(CompletionRequest.model_validate({"prompt": "x", field: value})) == grammar


def test_any_object_and_no_constraint() -> None:
    def asked(format_: str) -> Grammar | None:
        return grammar_of(CompletionRequest.model_validate({"prompt": "x", "response_format": {"type": format_}}))

    assert asked("json_object") == Grammar(GrammarKind.JSON_SCHEMA, '{"type":"object"}')
    assert asked("text") is None


def test_failures_have_their_status() -> None:
    full = failure_of(ResourceExhausted("full", 2.5))
    assert (full.status, full.headers, full.body["error"]["code"]) == (429, {"Retry-After": "3"}, "rate_limit_exceeded")
    assert failure_of(Unavailable("gone")).status == 503
    assert failure_of(FieldError("n", 3, "2")).body["error"]["param"] == "n"
    assert failure_of(PacelineError("broken")).body["error"]["message"] == "broken"
    assert failure_of(DataLoss("other tokens")).status == 410
    bug = failure_of(KeyError("secret"))
    assert (bug.status, "secret" in json.dumps(bug.body)) == (500, False)


def test_halves_of_characters_can_be_repeated() -> None:
    assert json.loads(dumps({"value": "\ud800é"})) == {"value": "\ud800é"}


async def generation(name: str, count: int, error: Exception | None = None) -> AsyncGenerator[Chunk, None]:
    for position in range(count):
        await asyncio.sleep(0)
        yield Chunk(name, position=position)
    if error is not None:
        raise error


@pytest.mark.parametrize("counts", [[5], [3, 0, 7], [1] * 16])
async def test_generations_side_by_side_lose_nothing(counts: list[int]) -> None:
    found: Batch = []
    async for batch in merged([generation(str(index), count) for index, count in enumerate(counts)]):
        assert batch
        found += batch
    for index, count in enumerate(counts):
        mine = [(chunk.session_id, chunk.position) for number, chunk in found if number == index]
        assert mine == [(str(index), position) for position in range(count)]


@pytest.mark.parametrize("others", [0, 2])
async def test_what_fails_first_ends_all(others: int) -> None:
    long = [generation("long", 1_000_000) for _ in range(others)]
    with pytest.raises(Unavailable):
        async for _ in merged([generation("short", 3, Unavailable("gone")), *long]):
            pass
    for each in long:
        with pytest.raises(StopAsyncIteration):
            await anext(each)


MARKS = st.lists(st.builds(Mark, st.from_regex("[A-Za-z0-9_-]+", fullmatch=True), st.booleans()) | st.just(Mark()))


@given(MARKS.filter(lambda marks: any(mark.token for mark in marks)))
def test_an_id_is_read_as_it_was_written(marks: list[Mark]) -> None:
    assert parse_event_id(event_id(marks)) == tuple(marks)


@pytest.mark.parametrize("text", [",", ".", "a,.", ",,"])
def test_an_id_has_a_token_and_ends_nothing_that_has_not_begun(text: str) -> None:
    with pytest.raises(FieldError, match="Last-Event-ID = "):
        parse_event_id(text)
