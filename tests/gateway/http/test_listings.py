"""Everything but completions."""

from __future__ import annotations

import httpx2
import pytest

import paceline
from paceline.embedded import MODEL_ID

pytestmark = pytest.mark.asyncio(loop_scope="package")


async def test_probes(http: httpx2.AsyncClient) -> None:
    assert (await http.get("/live")).status_code == 200
    assert (await http.get("/health")).json() == {"status": "healthy"}
    assert (await http.get("/version")).json() == {"version": paceline.__version__}


async def test_headers_are_in_the_document(http: httpx2.AsyncClient) -> None:
    paths = (await http.get("/openapi.json")).json()["paths"]
    for path in ("/v1/completions", "/v1/chat/completions"):
        given = {(each["name"], each["in"], each["required"]) for each in paths[path]["post"]["parameters"]}
        assert given == {("Last-Event-ID", "header", False), ("Idempotency-Key", "header", False)}


async def test_workers(http: httpx2.AsyncClient) -> None:
    listed = (await http.get("/v1/workers")).json()
    rows = {row.pop("id"): row for row in listed["data"]}
    assert listed["object"] == "list"
    assert set(rows) == {"verifier", "draft", "ngram"}
    assert rows["verifier"] | {"sessions": 0} == {
        "role": "verifier", "kind": "target", "model": MODEL_ID, "healthy": True, "sessions": 0, "max_sessions": 256,
        "price_per_hour": 0.0,
    }  # fmt: skip


async def test_metrics_count_requests_and_tokens(http: httpx2.AsyncClient) -> None:
    def value(text: str, name: str) -> float:
        return next((float(line.rpartition(" ")[2]) for line in text.splitlines() if line.startswith(name)), 0.0)

    before = (await http.get("/metrics")).text
    await http.post("/v1/completions", json={"prompt": [5, 6, 7], "max_tokens": 4, "n": 2, "ignore_eos": True})
    await http.get("/no/such/path")
    after = (await http.get("/metrics")).text
    grown = {
        'paceline_http_requests_total{route="/v1/completions",status="200"}': 1,
        'paceline_http_requests_total{route="none",status="404"}': 1,
        "paceline_prompt_tokens_total": 3,
        "paceline_completion_tokens_total": 8,
    }
    for name, by in grown.items():
        assert value(after, name) - value(before, name) == by, name
    assert value(after, 'paceline_worker_healthy{role="verifier",worker="verifier"}') == 1


async def test_tokens_and_back(http: httpx2.AsyncClient) -> None:
    asked = {"prompt": "def é😀():", "return_token_strs": True}
    answer = (await http.post("/tokenize", json=asked)).json()
    assert (answer["count"], answer["max_model_len"]) == (len(answer["tokens"]), 4096)
    assert "bytes:\\xf0" in answer["token_strs"]
    back = await http.post("/detokenize", json={"tokens": answer["tokens"]})
    assert back.json() == {"prompt": asked["prompt"]}


async def test_conversations_are_tokenized_as_they_are_completed(http: httpx2.AsyncClient) -> None:
    messages = [{"role": "user", "content": "hello"}]
    counted = (await http.post("/tokenize", json={"messages": messages})).json()["count"]
    chat = (await http.post("/v1/chat/completions", json={"messages": messages, "max_tokens": 1})).json()
    assert counted == chat["usage"]["prompt_tokens"]


@pytest.mark.parametrize(
    ("path", "body", "param"),
    [
        ("/tokenize", {}, "prompt"),
        ("/tokenize", {"prompt": "x", "messages": []}, "prompt"),
        ("/detokenize", {"tokens": [4096]}, "tokens"),
        ("/detokenize", {"tokens": [-1]}, "tokens"),
    ],
)
async def test_refused(http: httpx2.AsyncClient, path: str, body: dict[str, object], param: str) -> None:
    answer = await http.post(path, json=body)
    assert answer.status_code == 400
    assert answer.json()["error"]["param"].startswith(param)


async def test_a_watched_answer_leaves_its_timeline(http: httpx2.AsyncClient) -> None:
    """Who asks for events finds it under the trace id that the answer names, or that the request came with."""
    asked = {"prompt": "def f(", "max_tokens": 8, "ignore_eos": True, "speculation": {"events": True}}
    trace = f"{77:032x}"
    for headers, choices in (({}, 1), ({"traceparent": f"00-{trace}-{1:016x}-00"}, 2)):
        answer = (await http.post("/v1/completions", json=asked | {"n": choices}, headers=headers)).json()
        named = answer["metrics"]["trace_id"]
        assert not headers or named == trace
        found = (await http.get(f"/v1/timelines/{named}")).json()
        assert found["trace_id"] == named
        assert [one["finish"]["tokens"] for one in found["answers"]] == [8] * choices
        for one in found["answers"]:
            steps = [event for event in one["events"] if event["type"] == "step"]
            said = [token_id for step in steps for token_id in step["token_ids"]]
            assert "".join(one["texts"][str(token_id)] for token_id in said) in {c["text"] for c in answer["choices"]}
    quiet = (await http.post("/v1/completions", json=asked | {"speculation": {}})).json()
    assert "trace_id" not in quiet["metrics"]


async def test_an_unknown_timeline_is_not_found(http: httpx2.AsyncClient) -> None:
    answer = await http.get(f"/v1/timelines/{78:032x}")
    assert answer.status_code == 404
    assert (answer.json()["error"]["code"], answer.json()["error"]["param"]) == ("timeline_not_found", "trace_id")
