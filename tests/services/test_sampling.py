"""What clients ask of the next token holds under speculation exactly as without: the same text, the same numbers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from paceline.engine.runner import ModelRunner
from paceline.messages import FinishReason, SessionEvent
from paceline.speculation.logprobs import TokenLogprobs
from paceline.speculation.noise import NoiseCache, noise_key
from paceline.speculation.policy import Mode, Shape, SpeculationParameters
from paceline.speculation.sampling import SamplingParameters, choose
from tests.compare import float64_logits
from tests.in_process import InProcess, load
from tests.services.test_exactness import drafters

PROMPT = [1, 2, 3, 4, 5, 6, 1, 2, 3]
LENGTH, STOP = 40, 9
SAMPLINGS = {
    "repetition": SamplingParameters(LENGTH, 0.8, repetition_penalty=1.3),
    "presence and frequency, greedy": SamplingParameters(LENGTH, 0.0, presence_penalty=0.5, frequency_penalty=0.7),
    "bias": SamplingParameters(LENGTH, 0.9, logit_bias=((7, 2.0), (8, -100.0))),
    "min_p": SamplingParameters(LENGTH, 1.2, min_p=0.05),
    "min_tokens": SamplingParameters(LENGTH, 1.0, min_tokens=30, stop_token_ids=tuple(range(STOP, 40))),
    "everything": SamplingParameters(
        LENGTH, 0.9, 0.95, 30, 0.01, presence_penalty=0.3, frequency_penalty=-0.2, repetition_penalty=0.9,
        logit_bias=((3, 1.0),), min_tokens=12, stop_token_ids=(STOP, 17, 33), logprobs=5,
    ),
}  # fmt: skip


def oracle(path: Path, sampling: SamplingParameters) -> list[int]:
    """The text as DESIGN §5 defines it, token by token, from float64 logits of transformers."""
    tokens, noise, count = list(PROMPT), NoiseCache(noise_key(7, 0, PROMPT), 64), len(PROMPT)
    for emitted in range(LENGTH):
        scores, said = float64_logits(path, tokens)[-1].astype(np.float32).astype(float), Counter(tokens[count:])
        for token in set(tokens):
            factor = sampling.repetition_penalty
            scores[token] = scores[token] / factor if scores[token] > 0 else scores[token] * factor
            scores[token] -= sampling.frequency_penalty * said[token] + sampling.presence_penalty * (token in said)
        for token, bias in sampling.logit_bias:
            scores[token] += bias
        if emitted < sampling.min_tokens:
            scores[list(sampling.stop_token_ids)] = -1e9
        tokens.append(choose(scores.astype(np.float32), sampling, noise, len(tokens)))
        if tokens[-1] in sampling.stop_token_ids:
            break
    return tokens[count:]


class Logprobs:
    """A gateway's link that also keeps the log-probabilities."""

    def __init__(self, world: InProcess) -> None:
        self.heard: list[TokenLogprobs] = []
        self._send = world.recorder.send
        world.recorder.send = self.send  # type: ignore[method-assign]

    def send(self, events: Sequence[SessionEvent]) -> None:
        self.heard += [item for event in events if event.committed for item in event.committed.logprobs]
        self._send(events)


@pytest.fixture(scope="module")
def target(target_path: Path) -> ModelRunner:
    return load(target_path)


@pytest.mark.parametrize("name", SAMPLINGS)
def test_the_same_in_every_mode(name: str, target: ModelRunner, target_path: Path, other_path: Path) -> None:
    sampling = SAMPLINGS[name]
    expected = oracle(target_path, sampling)
    logprobs: list[list[TokenLogprobs]] = []
    for mode in Mode:
        for crew in ("none", "all") if mode is not Mode.OFF else ("none",):
            world = InProcess(target, drafters(crew, target_path, other_path))
            told = Logprobs(world)
            shape = Shape.CHAIN if crew == "none" else Shape.TREE
            world.open("s", PROMPT, sampling, SpeculationParameters(mode, shape), seed=7)
            world.run()
            assert world.recorder.tokens["s"] == expected
            stopped = expected[-1] in sampling.stop_token_ids
            assert world.recorder.finished["s"] is (FinishReason.STOP if stopped else FinishReason.LENGTH)
            logprobs.append(told.heard)
    if sampling.logprobs is None:
        assert not any(logprobs)
        return
    rows = float64_logits(target_path, [*PROMPT, *expected])[len(PROMPT) - 1 : -1]
    rows -= np.log(np.exp(rows).sum(-1, keepdims=True))
    for heard in logprobs:
        assert [item.logprob for item in heard] == pytest.approx(rows[range(len(expected)), expected], abs=1e-4)
        for item, row in zip(heard, rows, strict=True):
            assert [logprob for _, logprob in item.top] == pytest.approx(np.sort(row)[:-6:-1], abs=1e-4)


def test_a_drafter_knows_the_law(target: ModelRunner, target_path: Path, other_path: Path) -> None:
    """Penalties and biases are the drafter's, too: one that is the target guesses as well as without them."""
    world = InProcess(target, drafters("perfect", target_path, other_path))
    world.open("s", PROMPT, SAMPLINGS["repetition"], SpeculationParameters(), seed=7)
    world.run()
    overlap = world.recorder.last["s"].overlap
    assert overlap is not None
    assert overlap.mean_accepted_length > 2
    assert sum(overlap.acceptance_histogram) == overlap.steps
    assert sum(n * steps for n, steps in enumerate(overlap.acceptance_histogram)) == overlap.accepted_nodes


def test_who_guessed_each_token_is_told_on_request(target: ModelRunner, target_path: Path, other_path: Path) -> None:
    for asked in (False, True):
        world, sources = InProcess(target, drafters("perfect", target_path, other_path)), list[tuple[str, ...]]()
        send = world.recorder.send

        def listen(events: Sequence[SessionEvent], send=send, sources=sources) -> None:  # type: ignore[no-untyped-def]
            sources += [names for event in events if event.committed for names in event.committed.drafters]
            send(events)

        world.recorder.send = listen  # type: ignore[method-assign]
        world.open("s", PROMPT, SamplingParameters(LENGTH), SpeculationParameters(events=asked), seed=7)
        world.run()
        assert len(sources) == (LENGTH if asked else 0)
        assert set(sources) == ({(), ("model-0",)} if asked else set())
