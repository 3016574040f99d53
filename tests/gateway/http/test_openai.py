"""What OpenAI's own client asks for, it gets."""

from __future__ import annotations

import json
import math

import openai as api
import pytest
from openai import AsyncOpenAI

from paceline.embedded import MODEL_ID as MODEL

pytestmark = pytest.mark.asyncio(loop_scope="package")

PROMPT = "def read_lines(path):\n"
HELLO = [{"role": "user", "content": "hello"}]


async def text_of(openai: AsyncOpenAI, **options: object) -> str:
    answer = await openai.completions.create(model=MODEL, prompt=PROMPT, max_tokens=24, temperature=0, **options)  # type: ignore[call-overload]
    text: str = answer.choices[0].text
    return text


async def test_models(openai: AsyncOpenAI) -> None:
    (model,) = (await openai.models.list()).data
    assert (model.id, model.object, model.model_extra) == (MODEL, "model", {"max_model_len": 4096})


async def test_completion(openai: AsyncOpenAI) -> None:
    answer = await openai.completions.create(model=MODEL, prompt=PROMPT, max_tokens=6, seed=3, echo=True)
    (choice,) = answer.choices
    assert choice.text.startswith(PROMPT)
    assert (choice.finish_reason, answer.object, answer.model) == ("length", "text_completion", MODEL)
    assert answer.usage is not None
    assert (answer.usage.completion_tokens, answer.usage.total_tokens) == (6, 6 + answer.usage.prompt_tokens)
    assert (answer.system_fingerprint or "").startswith("fp_")
    metrics = (answer.model_extra or {})["metrics"]
    statistics = metrics["speculative_decoding"]
    assert (metrics["seed"], metrics["mode"]) == (3, "overlapped")
    assert metrics["exactness"].startswith("every token an exact draw")
    assert sum(statistics["acceptance_histogram"]) == statistics["num_spec_steps"]
    steps = statistics["num_spec_steps"]
    assert statistics["mean_acceptance_length"] == (steps + statistics["num_accepted_draft_tokens"]) / steps


async def test_a_stream_says_what_the_whole_answer_says(openai: AsyncOpenAI) -> None:
    whole = await text_of(openai)
    stream = await openai.completions.create(
        model=MODEL, prompt=PROMPT, max_tokens=24, temperature=0, stream=True, stream_options={"include_usage": True}
    )
    chunks = [chunk async for chunk in stream]
    assert "".join(chunk.choices[0].text for chunk in chunks if chunk.choices) == whole
    assert [chunk.usage.completion_tokens for chunk in chunks if chunk.usage] == [24]
    assert [chunk.choices[0].finish_reason for chunk in chunks if chunk.choices][-1] == "length"
    assert "speculative_decoding" in (chunks[-1].model_extra or {})["metrics"]


async def test_chat(openai: AsyncOpenAI) -> None:
    parts = [{"role": "user", "content": [{"type": "text", "text": "hello"}]}]
    options = {"model": MODEL, "max_completion_tokens": 8, "temperature": 0}
    whole = await openai.chat.completions.create(messages=HELLO, **options)  # type: ignore[call-overload]
    same = await openai.chat.completions.create(messages=parts, **options)  # type: ignore[call-overload]
    stream = await openai.chat.completions.create(messages=HELLO, stream=True, **options)  # type: ignore[call-overload]
    chunks = [chunk async for chunk in stream]
    message = whole.choices[0].message
    assert (message.role, whole.object, whole.usage.completion_tokens) == ("assistant", "chat.completion", 8)
    assert same.choices[0].message.content == message.content
    assert chunks[0].choices[0].delta.role == "assistant"
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == message.content
    assert all(chunk.object == "chat.completion.chunk" for chunk in chunks)


async def test_choices_of_one_seed_differ_and_come_again(openai: AsyncOpenAI) -> None:
    options = {"model": MODEL, "prompt": PROMPT, "max_tokens": 16, "seed": 5, "n": 3}
    first = await openai.completions.create(**options)  # type: ignore[call-overload]
    again = await openai.completions.create(**options)  # type: ignore[call-overload]
    stream = await openai.completions.create(stream=True, **options)  # type: ignore[call-overload]
    streamed = ["", "", ""]
    async for chunk in stream:
        streamed[chunk.choices[0].index] += chunk.choices[0].text
    texts = [choice.text for choice in first.choices]
    assert len(set(texts)) == 3
    assert [choice.text for choice in again.choices] == texts == streamed
    assert first.usage.completion_tokens == 48
    assert first.usage.prompt_tokens == (await openai.completions.create(**options | {"n": 1})).usage.prompt_tokens  # type: ignore[call-overload]


async def test_several_prompts_in_every_form(openai: AsyncOpenAI) -> None:
    options = {"model": MODEL, "max_tokens": 6, "temperature": 0}
    alone = [(await openai.completions.create(prompt=[ids], **options)).choices[0].text for ids in ([5, 6], [9])]  # type: ignore[call-overload]
    together = await openai.completions.create(prompt=[[5, 6], [9]], n=2, **options)  # type: ignore[call-overload]
    one = await openai.completions.create(prompt=[5, 6], **options)  # type: ignore[call-overload]
    texts = await openai.completions.create(prompt=["import ", "def "], **options)  # type: ignore[call-overload]
    assert [choice.text for choice in together.choices] == [alone[0], alone[0], alone[1], alone[1]]
    assert [choice.index for choice in together.choices] == [0, 1, 2, 3]
    assert (one.choices[0].text, together.usage.prompt_tokens) == (alone[0], 3)
    assert [choice.text for choice in texts.choices] == [
        (await openai.completions.create(prompt=prompt, **options)).choices[0].text  # type: ignore[call-overload]
        for prompt in ("import ", "def ")
    ]


async def test_stop_strings_end_the_text_and_are_not_in_it(openai: AsyncOpenAI) -> None:
    whole = await text_of(openai)
    middle = len(whole) // 2
    stop = whole[middle - 3 : middle + 3]
    answer = await openai.completions.create(
        model=MODEL, prompt=PROMPT, max_tokens=24, temperature=0, stop=["never this", stop]
    )
    (choice,) = answer.choices
    assert choice.text == whole[: whole.index(stop)]
    assert (choice.finish_reason, (choice.model_extra or {})["stop_reason"]) == ("stop", stop)


async def test_log_probabilities(openai: AsyncOpenAI) -> None:
    options = {"model": MODEL, "temperature": 0}
    text = await openai.completions.create(prompt=PROMPT, max_tokens=8, logprobs=2, **options)  # type: ignore[call-overload]
    columns = text.choices[0].logprobs
    assert "".join(columns.tokens) == text.choices[0].text
    assert all(
        text.choices[0].text[at:].startswith(token)
        for at, token in zip(columns.text_offset, columns.tokens, strict=True)
    )
    assert all(
        max(top.values()) == logprob for top, logprob in zip(columns.top_logprobs, columns.token_logprobs, strict=True)
    )
    chat = await openai.chat.completions.create(
        messages=HELLO,
        max_tokens=4,
        logprobs=True,
        top_logprobs=3,
        **options,  # type: ignore[call-overload]
    )
    for entry in chat.choices[0].logprobs.content:
        assert bytes(entry.bytes).decode(errors="replace").startswith(entry.token[:1])
        assert [top.logprob for top in entry.top_logprobs] == sorted(
            (t.logprob for t in entry.top_logprobs), reverse=True
        )
        assert len(entry.top_logprobs) == 3
        assert entry.top_logprobs[0].logprob == entry.logprob <= 0
        assert sum(math.exp(top.logprob) for top in entry.top_logprobs) <= 1


async def test_streamed_log_probabilities_are_the_same(openai: AsyncOpenAI) -> None:
    options = {"model": MODEL, "prompt": PROMPT, "max_tokens": 8, "temperature": 0, "logprobs": 1, "stop": "zzz"}
    whole = (await openai.completions.create(**options)).choices[0].logprobs  # type: ignore[call-overload]
    parts = [chunk.choices[0].logprobs async for chunk in await openai.completions.create(stream=True, **options)]  # type: ignore[call-overload]
    for column in ("tokens", "text_offset", "token_logprobs"):
        joined = [value for part in parts if part for value in getattr(part, column)]
        exact = column != "token_logprobs"  # which may come from steps of other shapes
        assert joined == (getattr(whole, column) if exact else pytest.approx(getattr(whole, column), abs=1e-4))


async def test_biases_and_penalties_are_heard(openai: AsyncOpenAI) -> None:
    forced = await text_of(openai, logit_bias={"9": 100})
    freed = await text_of(openai, logit_bias={"9": 100}, frequency_penalty=2, extra_body={"repetition_penalty": 100})
    assert len(set(forced)) == 1
    assert len(set(freed)) > 1


async def test_a_prediction_counts_what_came_true(openai: AsyncOpenAI) -> None:
    options = {"model": MODEL, "messages": HELLO, "max_tokens": 12, "temperature": 0}
    first = await openai.chat.completions.create(**options)  # type: ignore[call-overload]
    guess = first.choices[0].message.content
    again = await openai.chat.completions.create(prediction={"type": "content", "content": guess}, **options)  # type: ignore[call-overload]
    details = again.usage.completion_tokens_details
    assert again.choices[0].message.content == guess
    assert first.usage.completion_tokens_details is None
    assert details.accepted_prediction_tokens > 0
    assert details.accepted_prediction_tokens + details.rejected_prediction_tokens >= 12 - 1


async def test_errors_are_the_client_s_own(openai: AsyncOpenAI) -> None:
    with pytest.raises(api.BadRequestError) as bad:
        await text_of(openai, top_p=3)
    assert (bad.value.param, bad.value.type) == ("top_p", "invalid_request_error")
    assert "top_p = 3.0: expected a number above 0" in bad.value.message
    with pytest.raises(api.NotFoundError) as unknown:
        await openai.completions.create(model="gpt-nine", prompt="x")
    assert (unknown.value.code, unknown.value.param) == ("model_not_found", "model")
    with pytest.raises(api.BadRequestError) as long:
        await openai.completions.create(model=MODEL, prompt=[1] * 5000, stream=True)
    assert "'5000 tokens': expected fewer than 4096" in long.value.message


async def test_a_json_schema_is_kept_to_in_every_mode(openai: AsyncOpenAI) -> None:
    schema = {
        "type": "object",
        "properties": {
            "name": {"enum": ["ada", "alan"]},
            "born": {"type": "integer", "minimum": 1800, "maximum": 1999},
        },
        "required": ["name", "born"],
        "additionalProperties": False,
    }
    texts = set()
    for mode in ("overlapped", "lockstep", "off"):
        answer = await openai.chat.completions.create(  # type: ignore[call-overload]
            model=MODEL,
            messages=HELLO,
            max_tokens=64,
            seed=4,
            response_format={"type": "json_schema", "json_schema": {"name": "person", "schema": schema}},
            extra_body={"speculation": {"mode": mode}},
        )
        (choice,) = answer.choices
        person = json.loads(choice.message.content or "")
        assert choice.finish_reason == "stop"
        assert set(person) == {"name", "born"}
        assert person["name"] in ("ada", "alan")
        assert 1800 <= person["born"] <= 1999
        texts.add(choice.message.content)
    assert len(texts) == 1


async def test_a_schema_that_cannot_be_enforced_is_named(openai: AsyncOpenAI) -> None:
    bad = {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "nothing"}}}
    with pytest.raises(api.BadRequestError) as caught:
        await openai.chat.completions.create(model=MODEL, messages=HELLO, response_format=bad)  # type: ignore[call-overload]
    assert "json_schema" in str(caught.value)
