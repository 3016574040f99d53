"""Whatever comes over HTTP is answered in OpenAI's form, or cut off; nobody else notices.

``PACELINE_FUZZ_HTTP`` sets how many requests schemathesis makes of the OpenAPI document.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from typing import Any

import httpx2
import pytest
import pytest_asyncio
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from gateway.callers import Callers
from gateway.http.app import make_app
from gateway.http.patience import Impatient
from gateway.http.server import HttpServer
from tests.checkpoints import write_checkpoint
from tests.local_fleet import local_gateway, local_verifier
from tests.vocabulary import END, SIZE, json_tokenizer

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(3600)]

REQUESTS = int(os.environ.get("PACELINE_FUZZ_HTTP", "400"))
PATIENCE_SECONDS = 20.0
TEMPLATE = "{% for message in messages %}{{ message.role }}: {{ message.content }}\n{% endfor %}"
GOOD = {"prompt": "null false", "max_tokens": 24, "temperature": 0.8, "ignore_eos": True, "seed": 3}
JSON = {"Content-Type": "application/json"}


@dataclass(frozen=True)
class Served:
    """A gateway over HTTP and what it says to ``GOOD``."""

    address: str
    port: int
    document: dict[str, Any]
    """OpenAPI."""
    client: httpx2.AsyncClient
    text: str

    async def good(self) -> str:
        async with asyncio.timeout(PATIENCE_SECONDS):
            answer = await self.client.post("/v1/completions", json=GOOD)
        assert answer.status_code == 200, answer.text
        return str(answer.json()["choices"][0]["text"])


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def served(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Served]:
    folder = tmp_path_factory.mktemp("target")
    path = write_checkpoint(folder, vocab_size=SIZE, eos_token_id=END, max_position_embeddings=96)
    (path / "tokenizer.json").write_text(json_tokenizer())
    (path / "chat_template.jinja").write_text(TEMPLATE)
    async with local_verifier(path) as verifier, local_gateway([verifier]) as local:
        app = make_app(local.gateway, Callers())
        server = HttpServer(app)
        port = await server.start("127.0.0.1", 0, insecure=False)
        address = f"http://127.0.0.1:{port}"
        async with httpx2.AsyncClient(base_url=address, timeout=PATIENCE_SECONDS) as client:
            silent = Served(address, port, app.openapi(), client, "")
            yield replace(silent, text=await silent.good())
        await server.stop()


@pytest_asyncio.fixture(loop_scope="module", autouse=True)
async def nobody_else_notices(served: Served, caplog: pytest.LogCaptureFixture) -> AsyncIterator[None]:
    """The service goes on as it did, and has nothing to report."""
    yield
    assert await served.good() == served.text
    told = [record for record in caplog.records if record.levelno >= logging.ERROR or record.exc_info]
    assert not told, told[0].getMessage()


def check(status: int, body: str) -> None:
    """No failure of ours, and OpenAI's error body for every failure of theirs."""
    assert status < 500, (status, body)
    assert "Traceback" not in body
    if status >= 400:
        error = json.loads(body)["error"]
        assert set(error) == {"message", "type", "param", "code"}
        assert error["message"]


def run_schema(address: str, document: dict[str, Any]) -> int:
    """Requests that the document describes, valid and not; how many."""
    schema = schemathesis.openapi.from_dict(document)
    operations: list[Any] = [operation.ok() for operation in schema.get_all_operations()]  # type: ignore[union-attr]
    asking = [operation for operation in operations if operation.method == "post"]  # the others take nothing
    count = 0
    modes = [schemathesis.GenerationMode.POSITIVE, schemathesis.GenerationMode.NEGATIVE]
    cases = st.one_of([operation.as_strategy(generation_mode=mode) for operation in asking for mode in modes])

    @settings(
        max_examples=REQUESTS, derandomize=True, database=None, deadline=None, phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @given(cases)
    def one(case: Any) -> None:
        nonlocal count
        count += 1
        answer = case.call(base_url=address, session=session, timeout=PATIENCE_SECONDS)
        check(answer.status_code, answer.text)

    with requests.Session() as session:
        one()
        for path in ("/live", "/health", "/version", "/metrics", "/v1/models", "/v1/workers", "/"):
            assert session.get(address + path).status_code == 200
    return count


async def test_the_document_s_requests(served: Served) -> None:
    sent = await asyncio.to_thread(run_schema, served.address, served.document)
    assert sent >= REQUESTS


# -- bodies that fit no document ---------------------------------------------------------------------------------------


def begins(data: bytes) -> str:
    """A name for it."""
    return ascii(data[:30])


def nested(depth: int) -> str:
    return '{"a":' * depth + "1" + "}" * depth


@pytest.mark.parametrize(
    "body",
    [
        b"", b"\0", b"\xff\xfe", b"nul", b'"', b"{", b"[]", b"1", b"null", b"\xef\xbb\xbf{}", b"NaN", b"[" * 200_000,
        b'{"prompt": "x", "prompt": [1], "max_tokens": 1}', b'{"prompt": "\\ud800", "max_tokens": 1}',
        b'{"prompt": "\xc3", "max_tokens": 1}', b'{"prompt": "x", "seed": ' + b"9" * 5_000 + b"}",
        b'{"prompt": "x", "max_tokens": 1099511627776}', b'{"prompt": "x", "max_tokens": 2, "top_k": 1099511627776}',
        b'{"prompt": "x", "max_tokens": 2, "stop_token_ids": [-1, 1099511627776]}',
        b'{"prompt": "x", "max_tokens": 2, "logit_bias": {"99999999999": 1}}',
        b'{"prompt": "x", "max_tokens": 2, "logit_bias": {"' + b"1" * 5_000 + b'": 1}}',
        b'{"prompt": "x", "max_tokens": 2, "priority": 1099511627776}', b'{"prompt": "x", "min_tokens": 1099511627776}',
        b'{"prompt": "x", "max_tokens": 2, "temperature": 1e999}',
        b'{"prompt": "x", "max_tokens": 2, "temperature": NaN}',
        b'{"prompt": "x", "max_tokens": 2, "model": "' + b"m" * 100_000 + b'"}',
        b'{"prompt": "x", "max_tokens": 2, "' + b"f" * 100_000 + b'": 1}',
        *(
            f'{{"prompt": "x", "max_tokens": 2, "{field}": {nested(depth)}}}'.encode()
            for field in ("metadata", "guided_json", "logit_bias", "prompt")
            for depth in (90, 400, 900, 950, 980, 3_000)
        ),
    ],
    ids=begins,
)  # fmt: skip
async def test_bodies(served: Served, body: bytes) -> None:
    for path in ("/v1/completions", "/v1/chat/completions", "/tokenize", "/detokenize"):
        answer = await served.client.post(path, content=body, headers=JSON)
        check(answer.status_code, answer.text)


@pytest.mark.parametrize("path", ["/" + "x" * 300 + ".js", "/%00.js", "/%ff.js", "/..%2f..%2fetc%2fpasswd.js", "/%"])
async def test_places(served: Served, path: str) -> None:
    answer = await served.client.get(path)
    check(answer.status_code, answer.text)
    assert answer.status_code == 404


# -- what is no HTTP ---------------------------------------------------------------------------------------------------

HEAD = b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"


async def closed(writer: asyncio.StreamWriter) -> None:
    writer.close()
    with contextlib.suppress(ConnectionError):
        await writer.wait_closed()


@pytest.mark.parametrize(
    "data",
    [
        b"\0" * 2_000, b"\x16\x03\x01\x02\0" + b"\xff" * 500, b"GET / HTTP/9.9\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"GET /" + b"a" * 200_000 + b" HTTP/1.1\r\n\r\n", b"G" * 200_000, HEAD + b"X: " + b"a" * 200_000 + b"\r\n\r\n",
        HEAD + b"X: y\r\n" * 20_000 + b"\r\n", HEAD + b"Content-Length: -1\r\n\r\n{}",
        HEAD + b"Content-Length: 1e9\r\n\r\n{}",
        HEAD + b"Content-Length: \xb2\r\n\r\n{}", HEAD + b"Content-Length: 99999999999999999999\r\n\r\n{}",
        HEAD + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n",
        HEAD + b"Transfer-Encoding: chunked\r\n\r\nffffffffffffffffff\r\n",
        HEAD + b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n{}", HEAD + b"Content-Length: 100\r\n\r\n{",
        b"GET /\xff\xfe HTTP/1.1\r\n\r\n", b"GET http://[::1 HTTP/1.1\r\n\r\n", b"\r\n" * 5_000, b"",
    ],
    ids=begins,
)  # fmt: skip
async def test_garbage_on_the_socket(served: Served, data: bytes) -> None:
    """The client closes its side after it: the connection ends, and what is answered, if anything, is no 5xx."""
    reader, writer = await asyncio.open_connection("127.0.0.1", served.port)
    with contextlib.suppress(ConnectionError):
        writer.write(data)
        await writer.drain()
        writer.write_eof()
    async with asyncio.timeout(PATIENCE_SECONDS):
        with contextlib.suppress(ConnectionError):
            answer = await reader.read()
            assert not answer or 200 <= int(answer.split(b" ")[1]) < 500, answer[:200]
    await closed(writer)


async def test_whoever_sends_slowly_or_nothing_keeps_nobody_waiting(served: Served) -> None:
    """A hundred connections that say no more than half a request."""
    slow = [await asyncio.open_connection("127.0.0.1", served.port) for _ in range(100)]
    for index, (_, writer) in enumerate(slow):
        writer.write((HEAD + b"Content-Length: 100\r\n\r\n{")[: index * 2])
    assert await served.good() == served.text
    for _, writer in slow:
        await closed(writer)


async def test_a_request_that_does_not_come_in_time_ends_its_connection(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing, half a head, half a body; also as the second request of a connection, and though bytes go on coming."""
    monkeypatch.setattr(Impatient, "patience_seconds", 0.3)
    whole = b"GET /live HTTP/1.1\r\nHost: x\r\n\r\n"
    halves = (b"", HEAD, HEAD + b"Content-Length: 100\r\n\r\n{", whole + HEAD)

    async def drip(half: bytes) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", served.port)
        writer.write(half)
        reading = asyncio.create_task(reader.read())
        with contextlib.suppress(ConnectionError):
            while half and not reading.done():
                writer.write(b"X")
                await asyncio.sleep(0.05)
        await asyncio.gather(reading, return_exceptions=True)
        await closed(writer)

    async with asyncio.timeout(PATIENCE_SECONDS):
        await asyncio.gather(*map(drip, halves))
