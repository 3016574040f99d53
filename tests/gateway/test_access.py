"""One line for each answer, however it ends and over whatever it came, with the ids that all its lines have."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, aclosing
from dataclasses import dataclass, replace
from typing import Any

import httpx2
import pytest
import pytest_asyncio
from grpc import aio

from gateway.access import ABORTED, FAILED, FINISHED, REFUSED_
from gateway.admission import Bounds
from gateway.callers import Callers, KeyEntry, hash_key
from gateway.http.app import make_app
from gateway.http.server import HttpServer
from gateway.service import Gateway
from gateway.text import TextCodec
from paceline import wire
from paceline.client import GatewayClient
from paceline.embedded import TARGET
from paceline.logs.bounded import MOST
from paceline.messages import Generate
from paceline.rpc import channel
from paceline.speculation.policy import Mode, SpeculationParameters
from paceline.speculation.sampling import SamplingParameters
from tests.gateway.test_serving import until
from tests.local_fleet import LocalVerifier, local_gateway, local_verifier
from tests.logs.capturing import lines, written

KEY, WORD = "pl-0123456789abcdefghij", "marzipanelephant"
SAMPLING = SamplingParameters(max_tokens=24, temperature=0.0, ignore_eos=True)
ASKED = Generate(text=f"def {WORD}(", sampling=SAMPLING, seed=1, speculation=SpeculationParameters(mode=Mode.OFF))
TRACE_ID = "4bf92f3577b34da6a3ce929d0e0e4736"
TRACEPARENT = f"00-{TRACE_ID}-00f067aa0ba902b7-00"


@dataclass
class Served:
    gateway: Gateway
    address: str
    url: str
    client: GatewayClient
    http: httpx2.AsyncClient
    verifiers: dict[str, tuple[LocalVerifier, AsyncExitStack]]


@pytest_asyncio.fixture
async def served() -> AsyncIterator[Served]:
    """A gateway over two verifiers that take 4 ms for a step, for one caller."""
    callers = Callers([KeyEntry("team-a", hash_key(KEY))])
    async with AsyncExitStack() as stack:
        verifiers = {}
        for _ in range(2):
            own = await stack.enter_async_context(AsyncExitStack())
            verifier = await own.enter_async_context(local_verifier(TARGET, step="4ms"))
            verifiers[verifier.address] = (verifier, own)
        local = await stack.enter_async_context(
            local_gateway([one for one, _ in verifiers.values()], callers=callers, bounds=Bounds(requests=0))
        )
        server = HttpServer(make_app(local.gateway, callers))
        url = f"http://127.0.0.1:{await server.start('127.0.0.1', 0, insecure=False)}"
        stack.push_async_callback(server.stop)
        client = await stack.enter_async_context(GatewayClient(local.address, KEY, patience_seconds=0))
        headers = {"Authorization": f"Bearer {KEY}"}
        http = await stack.enter_async_context(httpx2.AsyncClient(base_url=f"{url}/v1/", headers=headers, timeout=20))
        yield Served(local.gateway, local.address, url, client, http, verifiers)


async def test_an_answer_over_grpc_has_one_line_with_its_figures(served: Served) -> None:
    with written(worker="gateway-0") as log:
        chunks = [chunk async for chunk in served.client.generate(ASKED)]
    completion = chunks[-1].completion
    assert completion is not None
    (line,) = lines(log, logger="gateway.access")
    assert line.pop("seconds") >= line["ttft_seconds"] == pytest.approx(completion.ttft_seconds, abs=1e-6)
    for name in ("timestamp", "request", "trace_id", "ttft_seconds", "tpot_seconds"):
        assert line.pop(name)
    assert line == {
        "level": "info", "logger": "gateway.access", "event": FINISHED, "worker": "gateway-0",
        "session": chunks[0].session_id, "epoch": 1, "caller": "team-a", "via": "grpc", "model": "target",
        "mode": "off", "prompt_tokens": completion.usage.prompt_tokens, "cached_tokens": 0, "tokens": 24,
        "finish_reason": "length", "steps": completion.overlap.steps,
        "accepted_length": round(completion.overlap.mean_accepted_length, 6),
    }  # fmt: skip


async def test_an_answer_over_http_has_one_and_the_client_knows_its_name(served: Served) -> None:
    headers = {"traceparent": TRACEPARENT}
    for stream in (False, True):
        with written() as log:
            body = {"prompt": "def ", "max_tokens": 4, "stream": stream}
            answer = await served.http.post("completions", json=body, headers=headers)
        (line,) = lines(log, logger="gateway.access")
        assert line["event"] == FINISHED
        assert line["request"] == answer.headers["x-request-id"]
        assert f"cmpl-{line['request']}" in answer.text
        assert (line["trace_id"], line["caller"], line["via"]) == (TRACE_ID, "team-a", "http")


async def test_choices_have_a_line_each_under_one_name(served: Served) -> None:
    with written() as log:
        answer = await served.http.post("completions", json={"prompt": "def ", "max_tokens": 4, "n": 3})
    found = lines(log, event=FINISHED, request=answer.headers["x-request-id"])
    assert len(lines(log, logger="gateway.access")) == len(found) == 3
    assert len({line["session"] for line in found}) == 3


async def test_all_lines_of_a_call_have_its_ids_across_a_failover(served: Served) -> None:
    asked = replace(ASKED, sampling=replace(SAMPLING, max_tokens=60))
    with written(level=logging.DEBUG) as log:
        async with aclosing(served.client.generate(asked)) as chunks:
            session = (await anext(chunks)).session_id
            (running,) = served.gateway._running.values()
            assert running.seat is not None
            await served.verifiers.pop(running.seat.verifier.address)[1].aclose()
            tokens = [token async for chunk in chunks for token in chunk.token_ids]
    (moved,) = lines(log, event="a session goes on elsewhere", session=session)
    about = {"session": session, "trace_id": moved["trace_id"]}
    (finished,) = lines(log, event=FINISHED, **about)
    assert (moved["level"], moved["epoch"], finished["epoch"]) == ("warning", 1, 2)
    assert moved["request"] == finished["request"]
    assert finished["tokens"] == 60 >= len(tokens)
    opened = lines(log, event="a session is opened", logger="verifier_service.service", **about)
    assert [line["epoch"] for line in opened] == [1, 2], "the verifiers' own lines are of the same session"


async def test_whoever_leaves_or_is_aborted_has_a_line_that_says_so(served: Served) -> None:
    asked = replace(ASKED, sampling=replace(SAMPLING, max_tokens=2000))
    with written() as log:
        async with aclosing(served.client.generate(asked)) as chunks:
            _ = await anext(chunks)
        await until(lambda: bool(lines(log, event=ABORTED)))
        async with served.http.stream("POST", "completions", json={"prompt": "a", "max_tokens": 2000, "stream": True}):
            await until(lambda: bool(served.gateway._running))
        await until(lambda: len(lines(log, event=ABORTED)) == 2)
        async with aclosing(served.client.generate(asked)) as chunks:
            session = (await anext(chunks)).session_id
            await served.client.abort(session)
            assert [chunk async for chunk in chunks][-1].completion
    left, gone, aborted = lines(log, event=ABORTED)
    assert (left["reason"], gone["reason"], aborted["reason"]) == ("client_gone", "client_gone", "abort")
    assert (left["level"], left["via"], gone["via"], aborted["session"]) == ("warning", "grpc", "http", session)
    assert len(lines(log, logger="gateway.access")) == 3


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"model": WORD}, "not_found"),
        ({"token_ids": (1 << 20,), "text": None}, "invalid_argument"),
        ({"speculation": SpeculationParameters(drafters=(WORD,))}, "invalid_argument"),
    ],
)
async def test_what_is_refused_over_grpc_has_a_line_without_the_clients_words(
    served: Served, change: dict[str, Any], reason: str
) -> None:
    with written() as log, pytest.raises(aio.AioRpcError):
        _ = [chunk async for chunk in served.client.generate(replace(ASKED, **change))]
    (line,) = lines(log, logger="gateway.access")
    assert (line["level"], line["event"], line["reason"], line["caller"]) == ("warning", REFUSED_, reason, "team-a")
    assert WORD not in log.getvalue()


async def test_a_message_that_says_nothing_sensible_is_refused_with_a_line(served: Served) -> None:
    async with channel(served.address) as connection:
        request = wire.gateway.GenerateRequest(text=WORD)
        request.sampling.temperature = -7.0
        call = wire.gateway_stub(connection).Generate(request, metadata=(("authorization", f"Bearer {KEY}"),))
        with written() as log, pytest.raises(aio.AioRpcError):
            await call.read()
    (line,) = lines(log, logger="gateway.access")
    assert (line["event"], line["reason"], line["field"]) == (REFUSED_, "invalid_argument", "temperature")
    assert WORD not in log.getvalue()


@pytest.mark.parametrize(
    ("path", "content", "status", "reason"),
    [
        ("completions", f'{{"prompt": "{WORD}', 400, "invalid_argument"),
        ("completions", f'{{"prompt": "{WORD}", "{WORD}": 1}}', 400, "invalid_argument"),
        ("completions", f'{{"prompt": {{"{WORD}": "{WORD}"}}}}', 400, "invalid_argument"),
        ("completions", f'{{"prompt": "{WORD}", "model": "{WORD}"}}', 404, "not_found"),
        ("completions", f'{{"prompt": "{WORD}", "max_tokens": -1}}', 400, "invalid_argument"),
        ("completions", "{" + " " * (8 << 20) + WORD, 413, "too_large"),
        ("chat/completions", f'{{"messages": [{{"role": "{WORD}"}}]}}', 400, "invalid_argument"),
        (WORD, "{}", 404, "not_found"),
    ],
)
async def test_what_is_refused_over_http_has_a_line_without_the_clients_words(
    served: Served, path: str, content: str, status: int, reason: str
) -> None:
    headers = {"Content-Type": "application/json"}
    with written() as log:
        answer = await served.http.post(path, content=content.encode(), headers=headers)
    assert answer.status_code == status
    (line,) = lines(log, logger="gateway.access")
    assert (line["event"], line["reason"], line["status"]) == (REFUSED_, reason, status)
    assert line["request"] == answer.headers["x-request-id"]
    ours = [one for one in lines(log) if one["logger"] != "httpx2"]  # which is the client's
    assert WORD not in str(ours)


async def test_a_wrong_key_is_told_by_who_refuses_it_and_reading_is_no_request(served: Served) -> None:
    with written() as log:
        wrong = await served.http.post("completions", json={"prompt": "a"}, headers={"Authorization": "Bearer x"})
        assert (wrong.status_code, (await served.http.get("models/nothing")).status_code) == (401, 404)
    assert not lines(log, logger="gateway.access")
    (line,) = lines(log, logger="paceline.security.refusals")
    assert (line["event"], line["reason"]) == ("refused", "api_key")


async def test_a_bug_has_a_line_and_its_traceback_the_same_ids(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    def encode(_: TextCodec, text: str) -> list[int]:
        raise KeyError(text)

    monkeypatch.setattr(TextCodec, "encode", encode)
    with written() as log:
        with pytest.raises(aio.AioRpcError):
            _ = [chunk async for chunk in served.client.generate(ASKED)]
        body = {"prompt": ASKED.text, "max_tokens": 4}
        assert (await served.http.post("completions", json=body)).status_code == 500
    failed, refused = lines(log, logger="gateway.access")
    assert (failed["event"], failed["reason"]) == (FAILED, "internal")
    assert refused["status"] == 500
    for line in (failed, refused):
        (told,) = [one for one in lines(log, request=line["request"]) if "exception" in one]
        assert told["exception"].endswith("KeyError (what it says is not logged)")
    assert WORD not in log.getvalue()


async def lose_all(served: Served) -> None:
    """All verifiers end while an answer is coming."""
    async with aclosing(served.client.generate(replace(ASKED, sampling=replace(SAMPLING, max_tokens=400)))) as chunks:
        _ = await anext(chunks)
        for _, own in served.verifiers.values():
            await own.aclose()
        served.verifiers.clear()
        _ = [chunk async for chunk in chunks]


async def test_when_no_verifier_is_left_the_line_says_why(served: Served) -> None:
    served.gateway._seats._patience_seconds = 0.1
    with written() as log, pytest.raises(aio.AioRpcError):
        await lose_all(served)
    (line,) = lines(log, event=FAILED)
    assert (line["reason"], line["level"]) == ("unavailable", "warning")
    assert "verifier" in line["detail"]


async def test_a_flood_of_refusals_is_bounded_and_counted(served: Served) -> None:
    with written() as log:
        for _ in range(MOST + 10):
            with pytest.raises(aio.AioRpcError):
                _ = [chunk async for chunk in served.client.generate(replace(ASKED, model="none"))]
        _ = [chunk async for chunk in served.client.generate(ASKED)]
    assert (len(lines(log, event=REFUSED_)), len(lines(log, event=FINISHED))) == (MOST, 1)


async def test_texts_are_logged_if_asked_for_and_never_else(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    for wanted in (False, True):
        monkeypatch.setenv("PACELINE_LOG_TEXTS", str(int(wanted)))
        with written(level=logging.DEBUG) as log:
            text = "".join([chunk.text async for chunk in served.client.generate(ASKED)])
            answer = await served.http.post("completions", json={"prompt": ASKED.text, "max_tokens": 4})
        first, second = lines(log, event=FINISHED)
        assert (WORD in log.getvalue()) is wanted
        assert [{"prompt", "text"} <= line.keys() for line in (first, second)] == [wanted, wanted]
    assert (first["prompt"], first["text"]) == (ASKED.text, text)
    assert (second["prompt"], second["text"]) == (ASKED.text, answer.json()["choices"][0]["text"])


async def test_an_answer_that_is_resumed_has_a_line_of_its_own(served: Served) -> None:
    asked = replace(ASKED, sampling=replace(SAMPLING, max_tokens=40))
    with written() as log:
        async with aclosing(served.client.generate(asked)) as chunks:
            async for chunk in chunks:
                if chunk.token_ids:
                    break
        await until(lambda: bool(lines(log, event=ABORTED)))
        rest = [one async for one in served.client.resume(chunk.resume_token)]
    (aborted,), (finished,) = lines(log, event=ABORTED), lines(log, event=FINISHED)
    assert rest[-1].completion is not None
    assert aborted["session"] == finished["session"] == rest[-1].session_id
    assert (finished["resumed"], finished["tokens"], aborted["tokens"] < 40) == (True, 40, True)
