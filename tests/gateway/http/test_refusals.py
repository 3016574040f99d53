"""What is not supported is refused by name, whatever is malformed is answered in OpenAI's form."""

from __future__ import annotations

import json
from typing import Any

import httpx2
import pytest

from gateway.http.limits import MAX_BODY_BYTES

pytestmark = pytest.mark.asyncio(loop_scope="package")

TEXT = {"prompt": "def ", "max_tokens": 1}
CHAT: dict[str, Any] = {"messages": [{"role": "user", "content": "hello"}], "max_tokens": 1}
WHERE = {"/v1/completions": TEXT, "/v1/chat/completions": CHAT}
TOOL = {"type": "function", "function": {"name": "f", "parameters": {}}}

BOTH = {
    "best_of": 2, "store": True, "service_tier": "priority", "use_beam_search": True, "priority": "high",
    "include_stop_str_in_output": True, "skip_special_tokens": False, "bad_words": ["x"], "allowed_token_ids": [1],
    "prompt_logprobs": 1, "truncate_prompt_tokens": 5, "length_penalty": 2.0, "return_token_ids": True,
    "cache_salt": "x", "n": 17, "n ": 1, "stop": ["x"] * 17, "logit_bias": {"one": 1}, "temperature": "0.5",
    "max_tokens": True, "top_k": 1.5, "stream": "yes", "seed": 1 << 64, "user": 3,
}  # fmt: skip
OF_CHATS = {
    "tools": [TOOL], "tool_choice": "required", "functions": [TOOL["function"]], "function_call": {"name": "f"},
    "audio": {"voice": "alloy", "format": "mp3"}, "modalities": ["text", "audio"], "web_search_options": {},
    "reasoning_effort": "high", "verbosity": "low", "echo": True, "suffix": "x", "chat_template": "{{ 1 }}",
    "continue_final_message": True, "documents": [{}], "messages": [], "top_logprobs": 2,
}  # fmt: skip
OF_TEXTS = {"suffix": "x", "messages": CHAT["messages"], "tools": [TOOL], "prompt": [], "logprobs": 21}
REFUSED = [
    *((path, field, value) for path in WHERE for field, value in BOTH.items()),
    *(("/v1/chat/completions", field, value) for field, value in OF_CHATS.items()),
    *(("/v1/completions", field, value) for field, value in OF_TEXTS.items()),
]
NEUTRAL = {
    "best_of": 1, "store": False, "service_tier": "auto", "user": "me", "metadata": {"a": "b"}, "n": None,
    "stop": None, "logit_bias": {}, "safety_identifier": "x", "stream": False, "top_k": -1, "prompt_logprobs": None,
}  # fmt: skip
NEUTRAL_IN_CHATS = {
    "tools": [],
    "tool_choice": "none",
    "parallel_tool_calls": True,
    "modalities": ["text"],
    "audio": None,
}


@pytest.mark.parametrize(("path", "field", "value"), REFUSED)
async def test_refused_by_name(http: httpx2.AsyncClient, path: str, field: str, value: object) -> None:
    answer = await http.post(path, json=WHERE[path] | {field: value})
    error = answer.json()["error"]
    assert (answer.status_code, error["type"], error["param"].partition("[")[0]) == (
        400,
        "invalid_request_error",
        field,
    )
    assert error["message"].startswith(f"{error['param']} = ")
    assert set(error) == {"message", "type", "param", "code"}


async def test_what_asks_for_nothing_is_taken(http: httpx2.AsyncClient) -> None:
    text = await http.post("/v1/completions", json=TEXT | NEUTRAL | {"suffix": ""})
    chat = await http.post("/v1/chat/completions", json=CHAT | NEUTRAL | NEUTRAL_IN_CHATS)
    assert (text.status_code, chat.status_code) == (200, 200)


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"stream_options": {"include_usage": True}}, "stream_options"),
        ({"stream": True, "stream_options": {"foo": True}}, "stream_options.foo"),
        ({"speculation": {"mode": "sideways"}}, "speculation.mode"),
        ({"speculation": {"drafters": ["oracle"]}}, "drafters"),
        ({"speculation": {"cache_scope": "mine"}}, "speculation.cache_scope"),
        ({"prediction": {"type": "image", "content": "x"}}, "prediction.type"),
        ({"response_format": {"type": "json_schema"}}, "response_format.json_schema"),
        ({"guided_regex": "a", "guided_choice": ["a"]}, "guided_regex and guided_choice"),
        ({"logprobs": 1, "echo": True}, "logprobs"),
        ({"prompt": ["x"] * 129}, "prompt"),
        ({"prompt": [1, -1]}, "prompt"),
        ({"prompt": [4096]}, "token_ids"),
        ({"prompt": "\ud800"}, "prompt"),
        ({"stop": ["\udfff"]}, "stop"),
        ({"guided_json": {"\ud800": 1}}, "guided_json"),
    ],
)
async def test_refused_within(http: httpx2.AsyncClient, body: dict[str, Any], param: str) -> None:
    content = json.dumps(TEXT | body)  # escapes halves of characters
    answer = await http.post("/v1/completions", content=content, headers={"Content-Type": "application/json"})
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, param), answer.text


@pytest.mark.parametrize(
    ("message", "param"),
    [
        ({"role": "user", "content": [{"type": "image_url", "image_url": {}}]}, "messages[0].content"),
        ({"role": "assistant", "content": "x", "tool_calls": [{}]}, "messages[0].tool_calls"),
        ({"role": "user", "content": "x", "name": "me"}, "messages[0].name"),
        ({"role": "user"}, "messages[0].content"),
    ],
)
async def test_messages_are_text(http: httpx2.AsyncClient, message: dict[str, Any], param: str) -> None:
    answer = await http.post("/v1/chat/completions", json={"messages": [message]})
    assert answer.status_code == 400
    assert answer.json()["error"]["param"].startswith(param)


async def test_options_of_a_template_are_its_own(http: httpx2.AsyncClient) -> None:
    answer = await http.post("/v1/chat/completions", json=CHAT | {"chat_template_kwargs": {"messages": []}})
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "chat_template_kwargs")
    fine = await http.post("/v1/chat/completions", json=CHAT | {"chat_template_kwargs": {"enable_thinking": False}})
    assert fine.status_code == 200


@pytest.mark.parametrize(
    ("content", "kind", "status", "says"),
    [
        (b'{"prompt": ', "application/json", 400, "body = 'byte 11': expected JSON"),
        (b"[1]", "application/json", 400, "expected a JSON object"),
        (b'{"prompt": "x"}', "text/plain", 400, "expected a JSON object, with Content-Type: application/json"),
        (b"", "application/json", 400, "expected a JSON object"),
        (b"\xff", "application/json", 400, "body"),
        (b"[" * 100_000, "application/json", 400, "body"),
        (b'{"prompt": "' + b"a" * MAX_BODY_BYTES + b'"}', "application/json", 413, "a body of more than"),
    ],
)
async def test_bodies(http: httpx2.AsyncClient, content: bytes, kind: str, status: int, says: str) -> None:
    async def chunks() -> Any:
        yield content

    for sent in (content, chunks()):
        answer = await http.post("/v1/completions", content=sent, headers={"Content-Type": kind})
        assert (answer.status_code, says in answer.json()["error"]["message"]) == (status, True), answer.text


async def test_other_places(http: httpx2.AsyncClient) -> None:
    nowhere, wrong = await http.get("/v1/nowhere"), await http.get("/v1/completions")
    assert (nowhere.status_code, wrong.status_code) == (404, 405)
    assert {"message", "type", "param", "code"} == set(nowhere.json()["error"]) == set(wrong.json()["error"])
