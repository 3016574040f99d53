"""The offline door gives the same texts as the services' oracle, whatever drafts for it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer
from transformers import AutoModelForCausalLM

import paceline
from paceline import LLM, SamplingParameters
from paceline.errors import FailedPrecondition, FieldError
from paceline.messages import FinishReason
from paceline.speculation.policy import Mode, SpeculationParameters
from paceline.training.tokenizer import train_tokenizer
from tests.checkpoints import write_checkpoint
from tests.compare import assert_same_text

PROMPTS = [[1, 2, 3, 1, 2, 3, 1], [5], [9, 8, 7, 6, 5, 4] * 20]


@pytest.fixture(autouse=True)
def _threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def speaking_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A target with a tokenizer."""
    directory = tmp_path_factory.mktemp("speaking")
    tokenizer: Tokenizer = train_tokenizer(["def f(x):\n    return x\n", "hello world " * 20])
    write_checkpoint(directory, "qwen2", vocab_size=tokenizer.get_vocab_size())
    tokenizer.save(str(directory / "tokenizer.json"))
    return directory


def test_greedy_texts_are_those_of_transformers(target_path: Path) -> None:
    sampling = SamplingParameters(max_tokens=30, temperature=0)
    model: Any = AutoModelForCausalLM.from_pretrained(target_path, dtype=torch.float32)
    outputs = LLM(str(target_path), threads=1).generate(PROMPTS, sampling)
    for prompt, output in zip(PROMPTS, outputs, strict=True):
        whole = model.generate(torch.tensor([prompt]), do_sample=False, max_new_tokens=30, pad_token_id=0)
        assert_same_text(target_path, prompt, output.token_ids, whole[0, len(prompt) :].tolist(), sampling)
        assert output.finish_reason is FinishReason.LENGTH
        assert output.usage.completion_tokens == 30


@pytest.mark.parametrize("numerics", ["standard", "deterministic"])
def test_a_draft_changes_the_speed_and_not_the_text(target_path: Path, other_path: Path, numerics: str) -> None:
    sampling = SamplingParameters(max_tokens=40, temperature=0.8)
    plain, *drafted = (
        LLM(str(target_path), draft, numerics=numerics, threads=1).generate(PROMPTS, sampling, seed=4)
        for draft in (None, str(target_path), str(other_path), "ngram")
    )
    assert drafted[0][0].overlap.mean_accepted_length > 2  # the target drafts for itself
    for outputs in drafted:
        assert [output.token_ids for output in outputs] == [output.token_ids for output in plain]


def test_a_second_call_finds_the_first_one_s_prefix_and_a_seed_its_text(target_path: Path) -> None:
    llm = LLM(str(target_path), threads=1)
    (first,) = llm.generate(PROMPTS[2], SamplingParameters(max_tokens=20, temperature=1.0))
    (again,) = llm.generate(PROMPTS[2], SamplingParameters(max_tokens=20, temperature=1.0), seed=first.seed)
    assert again.token_ids == first.token_ids
    assert (first.usage.cached_tokens, again.usage.cached_tokens) == (0, 112)


def test_text_in_and_text_out(speaking_path: Path) -> None:
    llm = LLM(str(speaking_path), threads=1)
    text, other = llm.generate(["hello", "def f("], SamplingParameters(max_tokens=8), seed=1)
    (alone,) = llm.generate("hello", SamplingParameters(max_tokens=8), seed=1)
    assert isinstance(text.text, str)
    assert (text.text, text.token_ids) == (alone.text, alone.token_ids)
    assert other.prompt_token_ids != text.prompt_token_ids


def test_what_cannot_be_served_is_said_and_harms_nothing(target_path: Path) -> None:
    llm = LLM(str(target_path), threads=1)
    sampling = SamplingParameters(max_tokens=5)
    with pytest.raises(FieldError, match="token_ids = 64: expected below 64"):
        llm.generate([[1, 2], [64]], sampling)
    with pytest.raises(FieldError, match="at least one token"):
        llm.generate([[1, 2], []], sampling)
    with pytest.raises(FailedPrecondition, match=r"tokenizer\.json"):
        llm.generate("text", sampling)
    with pytest.raises(FieldError, match="numerics = 'exact'"):
        LLM(str(target_path), numerics="exact")
    with pytest.raises(FieldError, match="draft = 'nothing'"):
        LLM(str(target_path), draft="nothing", threads=1)
    assert len(llm.generate([[1, 2]], sampling)[0].token_ids) == 5


def test_the_top_of_the_package_has_what_it_says() -> None:
    assert {name: getattr(paceline, name).__module__ for name in paceline._LAZY} == paceline._LAZY
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = paceline.nothing


def test_log_probabilities_come_if_asked_for_and_events_do_not(target_path: Path) -> None:
    llm = LLM(str(target_path), "ngram", threads=1)
    asked, plain = (
        llm.generate([[1, 2, 3, 1, 2]], SamplingParameters(12, 0, logprobs=logprobs))[0] for logprobs in (2, None)
    )
    assert asked.token_ids == plain.token_ids
    assert plain.logprobs == ()
    assert [item.top[0][0] for item in asked.logprobs] == list(asked.token_ids)  # greedy: the likeliest
    assert all(item.logprob == item.top[0][1] <= 0 for item in asked.logprobs)
    with pytest.raises(FieldError, match="events = True"):
        llm.generate([[1]], speculation=SpeculationParameters(events=True))


def test_a_prediction_is_drafted_from(speaking_path: Path) -> None:
    llm, sampling = LLM(str(speaking_path), "ngram", threads=1), SamplingParameters(40, 1.0, ignore_eos=True)
    (first,) = llm.generate("hello", sampling, seed=3)
    speculation = SpeculationParameters(mode=Mode.LOCKSTEP, prediction="hello" + first.text)
    (again,) = llm.generate("hello", sampling, seed=3, speculation=speculation)
    assert again.token_ids == first.token_ids
    (drafter,) = again.overlap.drafters
    assert drafter.proposed > first.overlap.drafters[0].proposed
