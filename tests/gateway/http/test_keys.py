"""Where keys are asked for, nobody gets in without one; what anybody may know stays open."""

from __future__ import annotations

import httpx2
import pytest

from gateway.callers import Callers, KeyEntry, hash_key
from gateway.http.app import make_app
from gateway.service import Gateway

KEY = "pl-right"
READ = ("/v1/models", "/v1/workers", "/v1/timelines/1")


@pytest.fixture
def http() -> httpx2.AsyncClient:
    app = make_app(Gateway([], []), Callers([KeyEntry("team", hash_key(KEY))]))
    return httpx2.AsyncClient(transport=httpx2.ASGITransport(app), base_url="http://gateway")


@pytest.mark.parametrize("authorization", [None, "Bearer pl-wrong", "Basic pl-right", "pl-right", "Bearer "])
@pytest.mark.parametrize("path", [*READ, "/v1/completions", "/v1/chat/completions", "/tokenize"])
async def test_without_the_key(http: httpx2.AsyncClient, path: str, authorization: str | None) -> None:
    headers = {"Authorization": authorization} if authorization is not None else {}
    method = "GET" if path in READ else "POST"
    answer = await http.request(method, path, headers=headers, json=None if method == "GET" else {})
    error = answer.json()["error"]
    assert (answer.status_code, error["code"], error["type"]) == (401, "invalid_api_key", "invalid_request_error")
    assert "pl-" not in answer.text


async def test_with_the_key(http: httpx2.AsyncClient) -> None:
    answer = await http.get("/v1/workers", headers={"Authorization": f"Bearer {KEY}"})
    assert (answer.status_code, answer.json()) == (200, {"object": "list", "data": []})


async def test_what_is_open(http: httpx2.AsyncClient) -> None:
    statuses = {path: (await http.get(path)).status_code for path in ("/live", "/health", "/version", "/")}
    assert statuses == {"/live": 200, "/health": 503, "/version": 200, "/": 200}
