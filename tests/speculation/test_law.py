"""The law of the next token: what is asked of it, against the definitions written out naively."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from paceline.speculation.law import TokenLaw
from paceline.speculation.noise import NoiseCache
from paceline.speculation.sampling import NotANumber, SamplingParameters, choose

SIZE = 12
TOKENS = st.lists(st.integers(0, SIZE - 1), max_size=8)
LOGITS = st.lists(st.floats(-5, 5, width=32), min_size=SIZE, max_size=SIZE).map(lambda row: np.array(row, np.float32))


def law(
    sampling: SamplingParameters, prompt: list[int], text: list[int] | None = None, stop: tuple[int, ...] = ()
) -> TokenLaw:
    return TokenLaw(sampling, NoiseCache(3, SIZE), [*prompt, *(text or [])], len(prompt), SIZE, stop)


def definition(logits: np.ndarray, sampling: SamplingParameters, prompt: list[int], text: list[int]) -> list[float]:
    emitted, scores = Counter(text), []
    for token, logit in enumerate(logits.tolist()):
        score = logit
        if token in prompt or token in emitted:
            score = score / sampling.repetition_penalty if score > 0 else score * sampling.repetition_penalty
        score -= sampling.frequency_penalty * emitted[token] + sampling.presence_penalty * (token in emitted)
        scores.append(score + dict(sampling.logit_bias).get(token, 0.0))
    return scores


@settings(max_examples=200, deadline=None)
@given(
    logits=LOGITS,
    prompt=TOKENS,
    committed=TOKENS,
    more=TOKENS,
    path=TOKENS,
    penalties=st.tuples(st.floats(-2, 2), st.floats(-2, 2), st.floats(0.1, 3)),
)
def test_penalties_and_biases_follow_the_text_and_the_path(
    logits: np.ndarray,
    prompt: list[int],
    committed: list[int],
    more: list[int],
    path: list[int],
    penalties: tuple[float, float, float],
) -> None:
    presence, frequency, repetition = penalties
    sampling = SamplingParameters(
        presence_penalty=presence,
        frequency_penalty=frequency,
        repetition_penalty=repetition,
        logit_bias=((2, 1.5), (5, -3.0)),
    )
    one = law(sampling, prompt, committed)
    one.adjust(logits, 0, path)  # what was asked of one row leaves nothing behind
    one.commit(more)
    text = [*committed, *more]
    expected = definition(logits, sampling, prompt, [*text, *path])
    assert one.adjust(logits, 99, path).tolist() == pytest.approx(expected)
    reopened = law(sampling, prompt, text)
    assert reopened.adjust(logits, 99, path).tolist() == pytest.approx(expected)


@given(logits=LOGITS, temperature=st.sampled_from([0.0, 0.7]), position=st.integers(0, 50))
def test_nothing_asked_is_the_plain_choice(logits: np.ndarray, temperature: float, position: int) -> None:
    sampling = SamplingParameters(temperature=temperature)
    assert law(sampling, [1]).choose(logits, position) == choose(logits, sampling, NoiseCache(3, SIZE), position)


def test_stop_tokens_wait_for_min_tokens() -> None:
    sampling = SamplingParameters(temperature=0, min_tokens=2)
    logits = np.zeros(SIZE, np.float32)
    logits[[4, 7]] = 3.0, 2.0
    stopping = law(sampling, [1, 2, 3], stop=(4,))
    assert [stopping.choose(logits, position) for position in (3, 4, 5)] == [7, 7, 4]


def test_a_grammar_is_obeyed_and_wins_over_min_tokens() -> None:
    sampling = SamplingParameters(temperature=0, min_tokens=2)
    logits = np.arange(SIZE, dtype=np.float32)
    allowed = np.zeros(SIZE, bool)
    allowed[[3, 4]] = True
    stopping = law(sampling, [1], stop=(4,))
    assert stopping.choose(logits, 1, allowed=allowed) == 3
    allowed[3] = False
    assert stopping.choose(logits, 1, allowed=allowed) == 4
    with pytest.raises(NotANumber, match="grammar"):
        stopping.choose(logits, 1, allowed=np.zeros(SIZE, bool))


def test_a_bias_of_100_decides() -> None:
    sampling = SamplingParameters(temperature=1, logit_bias=((6, 100.0),))
    assert {law(sampling, [1]).choose(np.zeros(SIZE, np.float32), position) for position in range(50)} == {6}
