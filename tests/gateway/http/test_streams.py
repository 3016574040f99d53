"""Streams: their bytes, the same in all modes, and what becomes of them when nobody reads."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import httpx2
import pytest

from paceline import rpc, wire
from paceline.cluster.local import LocalCluster

pytestmark = pytest.mark.asyncio(loop_scope="package")

ASKED: dict[str, Any] = {"prompt": "def read_lines(path):\n", "max_tokens": 40, "temperature": 0.8, "seed": 7}
MODES = ("off", "lockstep", "overlapped")


async def streamed(http: httpx2.AsyncClient, **options: object) -> list[dict[str, Any]]:
    headers = {"Accept": "text/event-stream"}
    answer = await http.post("/v1/completions", json=ASKED | {"stream": True} | options, headers=headers)
    *events, done, rest = answer.content.split(b"\n\n")
    assert (done, rest) == (b"data: [DONE]", b"")
    data, ids = zip(*(event.split(b"\nid: ") for event in events), strict=True)
    assert all(each.startswith(b"data: {") and b"\n" not in each for each in data)
    assert all(ids)
    return [json.loads(each.removeprefix(b"data: ")) for each in data]


async def test_framing(http: httpx2.AsyncClient) -> None:
    answer = await http.post("/v1/completions", json=ASKED | {"stream": True, "max_tokens": 4})
    assert answer.headers["Content-Type"] == "text/event-stream; charset=utf-8"
    assert answer.headers["Cache-Control"] == "no-cache"
    chunks = await streamed(http, max_tokens=4)
    assert len({chunk["id"] for chunk in chunks}) == 1
    assert all(set(chunk) == {"id", "object", "created", "model", "system_fingerprint", "choices"} for chunk in chunks)
    assert [chunk["choices"][0]["finish_reason"] for chunk in chunks] == [None] * (len(chunks) - 1) + ["length"]


async def test_usage_and_text_are_the_same_in_all_modes(http: httpx2.AsyncClient) -> None:
    whole = (await http.post("/v1/completions", json=ASKED)).json()["choices"][0]["text"]
    stop, guess = whole[30:36], {"type": "content", "content": whole[10:60]}
    found = []
    for mode in MODES:
        asked = {**ASKED, "stop": stop, "prediction": guess, "speculation": {"mode": mode}, "n": 2}
        answer = (await http.post("/v1/completions", json=asked)).json()
        chunks = await streamed(http, **asked, stream_options={"include_usage": True})
        texts = ["", ""]
        for chunk in chunks[:-1]:
            assert chunk["usage"] is None
            texts[chunk["choices"][0]["index"]] += chunk["choices"][0]["text"]
        assert texts == [choice["text"] for choice in answer["choices"]]
        for usage in (answer["usage"], chunks[-1]["usage"]):
            del usage["prompt_tokens_details"]  # what was found in the cache is no matter of the text
            found.append((texts, usage))
        assert answer["metrics"]["mode"] == mode
    assert all(each == found[0] for each in found)
    assert found[0][0][0] == whole[:30]
    details = found[0][1]["completion_tokens_details"]
    assert 0 < details["accepted_prediction_tokens"] <= found[0][1]["completion_tokens"]


async def test_who_guessed_what(http: httpx2.AsyncClient) -> None:
    told = await streamed(http, speculation={"mode": "lockstep", "events": True})
    plain = await streamed(http, speculation={"mode": "lockstep"})
    *chunks, last = told
    tokens = [token for chunk in chunks for token in chunk["speculation"]["tokens"]]
    assert len(tokens) == 40
    assert "".join(token["text"] for token in tokens) == "".join(chunk["choices"][0]["text"] for chunk in plain)
    assert {name for token in tokens for name in token["drafters"]} <= {"draft", "ngram"}
    assert any(token["drafters"] for token in tokens)
    assert (last["choices"], "usage" in last) == ([], False)
    assert last["metrics"]["speculative_decoding"]["num_accepted_draft_tokens"] > 0


async def test_nobody_drafts_when_nobody_may(http: httpx2.AsyncClient) -> None:
    answer = await http.post("/v1/completions", json=ASKED | {"speculation": {"drafters": []}})
    assert answer.json()["metrics"]["speculative_decoding"]["num_draft_tokens"] == 0


async def load_of(cluster: LocalCluster) -> tuple[int, int]:
    """Running sessions and blocks in use."""
    async with rpc.channel(cluster.worker("verifier").address) as connection:
        load = (await wire.verifier_stub(connection).Describe(wire.verifier.DescribeVerifierRequest())).load
    return load.running_sessions, load.total_blocks - load.free_blocks


async def until_free(cluster: LocalCluster) -> tuple[int, int]:
    for _ in range(100):
        if (load := await load_of(cluster)) == (0, 0):
            break
        await asyncio.sleep(0.02)
    return load


async def connect(cluster: LocalCluster, body: dict[str, Any]) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    host, _, port = cluster.http_address.partition(":")
    reader, writer = await asyncio.open_connection(host, int(port), limit=1024)
    content = json.dumps(body).encode()
    head = f"POST /v1/completions HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\n"
    writer.write(f"{head}Content-Length: {len(content)}\r\n\r\n".encode() + content)
    return reader, writer


@pytest.mark.parametrize("how", ["stream", "whole"])
@pytest.mark.parametrize("n", [1, 3])
async def test_a_client_that_leaves_frees_everything(cluster: LocalCluster, how: str, n: int) -> None:
    body = {"prompt": "def ", "max_tokens": 2000, "ignore_eos": True, "stream": how == "stream", "n": n}
    reader, writer = await connect(cluster, body)
    if how == "stream":
        assert await reader.readuntil(b"data: ")
    for _ in range(100):
        if (await load_of(cluster))[0] == n:
            break
        await asyncio.sleep(0.02)
    assert (await load_of(cluster))[0] == n
    writer.close()
    assert await until_free(cluster) == (0, 0)


async def test_a_slow_reader_holds_up_nobody(cluster: LocalCluster, http: httpx2.AsyncClient) -> None:
    slow = {"prompt": "def ", "max_tokens": 1500, "ignore_eos": True, "stream": True, "logprobs": 20}
    reader, writer = await connect(cluster, slow)
    assert await reader.readuntil(b"data: ")
    chunks = await streamed(http)
    assert chunks[-1]["choices"][0]["finish_reason"] == "length"
    writer.close()
    assert await until_free(cluster) == (0, 0)


async def test_connections_are_kept(cluster: LocalCluster) -> None:
    reader, writer = await connect(cluster, ASKED | {"max_tokens": 2, "stream": True})
    await reader.readuntil(b"[DONE]\n\n\r\n0\r\n\r\n")
    writer.write(b"GET /live HTTP/1.1\r\nHost: x\r\n\r\n")
    assert (await reader.readuntil(b"\r\n")) == b"HTTP/1.1 200 OK\r\n"
    writer.close()
