"""A stream over HTTP goes on after its last event at any gateway, and a request made again is the same sessions."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import AsyncExitStack, aclosing
from dataclasses import dataclass, field
from typing import Any

import httpx2
import pytest
import pytest_asyncio
from openai import AsyncOpenAI

from gateway.callers import Callers, KeyEntry, hash_key
from gateway.http.app import make_app
from gateway.http.resuming import MAX_KEY, seed_of
from gateway.http.server import HttpServer
from gateway.keeping import NOT_RESUMABLE
from gateway.tokens import Claim, ResumeToken
from paceline.cluster.journal import MemoryJournal
from paceline.embedded import TARGET
from paceline.engine.runner import Numerics
from paceline.security.refusals import REFUSALS
from tests.gateway.test_serving import until
from tests.local_fleet import LocalGateway, LocalVerifier, local_gateway, local_verifier

pytestmark = pytest.mark.asyncio(loop_scope="module")

KEYS = {"alice": "key of alice", "bob": "key of bob"}
COMMON: dict[str, Any] = {
    "max_tokens": 24, "temperature": 0.9, "ignore_eos": True, "stream": True, "speculation": {"mode": "off"},
    "stream_options": {"include_usage": True},
}  # fmt: skip
TEXT = COMMON | {"prompt": "def add(a, b):\n", "logprobs": 2}
CHAT = COMMON | {"messages": [{"role": "user", "content": "hello"}], "logprobs": True, "top_logprobs": 1}
BODIES = {"/v1/completions": TEXT, "/v1/chat/completions": CHAT}


@dataclass
class Two:
    """Gateways of one fleet, with one journal, over HTTP."""

    verifier: LocalVerifier
    gateways: tuple[LocalGateway, LocalGateway]
    journal: MemoryJournal
    alice: tuple[httpx2.AsyncClient, httpx2.AsyncClient]
    bob: httpx2.AsyncClient
    """At the second one."""

    async def nothing_is_left(self) -> None:
        await until(lambda: not self.verifier.verifier.busy and self.verifier.idle)
        assert not any(local.gateway._running or local.gateway.busy for local in self.gateways)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def two() -> AsyncIterator[Two]:
    callers = Callers([KeyEntry(name, hash_key(key)) for name, key in KEYS.items()])
    journal = MemoryJournal()
    async with AsyncExitStack() as stack:
        verifier = await stack.enter_async_context(local_verifier(TARGET, step="3ms", numerics=Numerics.DETERMINISTIC))

        async def begin() -> tuple[LocalGateway, str]:
            local = await stack.enter_async_context(local_gateway([verifier], callers=callers, journal=journal))
            server = HttpServer(make_app(local.gateway, callers))
            port = await server.start("127.0.0.1", 0, insecure=False)
            stack.push_async_callback(server.stop)
            return local, f"http://127.0.0.1:{port}"

        async def client(address: str, name: str) -> httpx2.AsyncClient:
            known = {"Authorization": f"Bearer {KEYS[name]}"}
            return await stack.enter_async_context(httpx2.AsyncClient(base_url=address, headers=known, timeout=30))

        (first, one), (second, other) = await begin(), await begin()
        alice = await client(one, "alice"), await client(other, "alice")
        yield Two(verifier, (first, second), journal, alice, await client(other, "bob"))


@dataclass(frozen=True)
class Event:
    data: dict[str, Any]
    id: str | None


@dataclass
class Heard:
    """What one choice has said, over all streams."""

    text: str = ""
    roles: list[str] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    offsets: list[int] = field(default_factory=list)
    ends: list[str] = field(default_factory=list)


def parsed(event: str) -> Event | None:
    """None: the last one."""
    data, _, name = event.partition("\nid:")
    if data == "data: [DONE]":
        return None
    return Event(json.loads(data.removeprefix("data: ")), name.removeprefix(" ") if "\nid:" in event else None)


async def events(
    http: httpx2.AsyncClient, path: str, body: dict[str, Any], after: str = "", key: str = ""
) -> AsyncGenerator[Event, None]:
    """Of a stream that comes to its end, or to an error."""
    headers = {name: value for name, value in (("Last-Event-ID", after), ("Idempotency-Key", key)) if value}
    headers["Accept"] = "text/event-stream"
    async with http.stream("POST", path, json=body, headers=headers) as answer:
        assert answer.status_code == 200, await answer.aread()
        rest = ""
        async for text in answer.aiter_text():
            *whole, rest = (rest + text).split("\n\n")
            for event in map(parsed, whole):
                if event is None:
                    return
                yield event
                if "error" in event.data:
                    return
    raise AssertionError("the stream has no end")


async def first(http: httpx2.AsyncClient, path: str, body: dict[str, Any], count: int, key: str = "") -> list[Event]:
    """So many events, or all; then the client leaves."""
    found = list[Event]()
    async with aclosing(events(http, path, body, key=key)) as stream:
        async for event in stream:
            found.append(event)
            if len(found) == count:
                break
    return found


async def rest_of(
    http: httpx2.AsyncClient, path: str, body: dict[str, Any], after: str | None, key: str = ""
) -> list[Event]:
    assert after
    return [event async for event in events(http, path, body, after, key)]


async def refused(
    http: httpx2.AsyncClient, path: str, body: dict[str, Any], **headers: str
) -> tuple[int, str | None, str | None]:
    """Status, code and parameter."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    answer = await http.post(path, json=body, headers=named)
    error = answer.json()["error"]
    return answer.status_code, error["code"], error["param"]


def heard(told: list[Event]) -> dict[int, Heard]:
    """By choice."""
    found: dict[int, Heard] = {}
    for choice in (choice for event in told for choice in event.data["choices"]):
        one, delta = found.setdefault(choice["index"], Heard()), choice.get("delta", choice)
        one.text += delta.get("content", delta.get("text"))
        one.roles += filter(None, [delta.get("role")])
        one.ends += filter(None, [choice["finish_reason"]])
        logprobs = choice["logprobs"] or {}
        one.logprobs += logprobs.get("token_logprobs") or [entry["logprob"] for entry in logprobs.get("content", ())]
        one.offsets += logprobs.get("text_offset", ())
    return found


def usage(told: list[Event]) -> dict[str, Any]:
    counted = dict(told[-1].data["usage"])
    del counted["prompt_tokens_details"]  # what was found in the cache is no matter of the text
    return counted


# -- after the last event ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", BODIES)
async def test_a_stream_goes_on_after_any_event(two: Two, path: str) -> None:
    """Nothing twice, nothing missing, wherever it broke, and at whichever gateway it goes on."""
    whole = [event async for event in events(two.alice[0], path, BODIES[path] | {"seed": 7})]
    for at in (1, 2, 9, len(whole) - 1):
        begun = await first(two.alice[0], path, BODIES[path] | {"seed": 7}, at)
        rest = await rest_of(two.alice[at % 2], path, BODIES[path] | {"seed": 7}, begun[-1].id)
        assert heard([*begun, *rest]) == heard(whole)
        assert (usage(rest), rest[-1].data["metrics"]["seed"]) == (usage(whole), 7)
    assert heard(whole)[0].ends == ["length"]
    assert len(heard(whole)[0].logprobs) == 24
    await two.nothing_is_left()


async def test_a_stream_may_break_again(two: Two) -> None:
    body = TEXT | {"seed": 11, "echo": True, "logprobs": None, "prediction": {"type": "content", "content": "return a"}}
    whole = [event async for event in events(two.alice[0], "/v1/completions", body)]
    told = await first(two.alice[0], "/v1/completions", body, 3)
    for at in (1, 0):
        async with aclosing(events(two.alice[at], "/v1/completions", body, told[-1].id or "")) as stream:
            told += [await anext(stream) for _ in range(3)]
    told += await rest_of(two.alice[1], "/v1/completions", body, told[-1].id)
    assert heard(told) == heard(whole)
    assert usage(told) == usage(whole)


async def test_choices_go_on_each_from_where_it_was(two: Two) -> None:
    """The body has no seed: a choice of which nothing had come gets that of the others."""
    body = TEXT | {"n": 3, "prompt": ["def add(a, b):\n", "import "]}
    begun = await first(two.alice[0], "/v1/completions", body, 1)
    assert begun[0].id is not None
    assert [bool(part) for part in begun[0].id.split(",")].count(True) == 1
    rest = await rest_of(two.alice[1], "/v1/completions", body, begun[-1].id)
    seed = rest[-1].data["metrics"]["seed"]
    whole = [event async for event in events(two.alice[1], "/v1/completions", body | {"seed": seed})]
    assert heard([*begun, *rest]) == heard(whole)
    assert usage(rest) == usage(whole)
    assert len(heard(whole)) == 6
    await two.nothing_is_left()


async def test_an_ending_that_was_told_is_not_told_again(two: Two) -> None:
    body = CHAT | {"seed": 3, "n": 2}
    whole = [event async for event in events(two.alice[0], "/v1/chat/completions", body)]
    for event in whole:
        begun = whole[: whole.index(event) + 1]
        rest = await rest_of(two.alice[1], "/v1/chat/completions", body, event.id)
        assert heard([*begun, *rest]) == heard(whole)
        assert usage(rest) == usage(whole)
    await two.nothing_is_left()
    silent = body | {"stream_options": None}
    assert await rest_of(two.alice[1], "/v1/chat/completions", silent, whole[-1].id) == []
    assert not two.verifier.verifier.busy


@pytest.mark.parametrize("at", [0, 1])
async def test_whoever_goes_on_takes_over(two: Two, at: int) -> None:
    body = TEXT | {"seed": 5, "max_tokens": 60}
    whole = [event async for event in events(two.alice[0], "/v1/completions", body)]
    going = events(two.alice[0], "/v1/completions", body)
    told = [await anext(going), await anext(going)]
    rest = asyncio.create_task(rest_of(two.alice[at], "/v1/completions", body, told[0].id))
    *_, broken = [event async for event in going]
    assert (broken.data["error"]["type"], broken.data["error"]["code"]) == ("conflict_error", "aborted")
    assert heard([told[0], *await rest]) == heard(whole)
    await two.nothing_is_left()


# -- what is refused ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["x", "," * 3, "a,b", "A" * 50, ".", "A" * 9000])
async def test_what_is_no_event_id_is_refused_by_name(two: Two, name: str) -> None:
    status = await refused(two.alice[0], "/v1/completions", TEXT, Last_Event_ID=name)
    assert status == (400, None, "Last-Event-ID")


async def test_an_id_belongs_to_its_request(two: Two) -> None:
    path = "/v1/completions"
    (event, *_) = await first(two.alice[0], path, TEXT, 2)
    assert event.id is not None
    others: list[dict[str, Any]] = [
        {"temperature": 0.5}, {"prompt": "def "}, {"n": 2}, {"stream": False, "stream_options": None}, {"seed": 1},
    ]  # fmt: skip
    for other in others:
        status = await refused(two.alice[1], path, TEXT | other, Last_Event_ID=event.id)
        assert status == (400, None, "Last-Event-ID"), other
    status = await refused(two.alice[1], "/v1/chat/completions", CHAT, Last_Event_ID=event.id)
    assert status == (400, None, "Last-Event-ID")
    before = REFUSALS.by_reason().get("resume_token", 0)
    assert (await refused(two.bob, path, TEXT, Last_Event_ID=event.id))[:2] == (403, "permission_denied")
    assert REFUSALS.by_reason()["resume_token"] == before + 1
    assert (await rest_of(two.alice[1], path, TEXT, event.id))[-1].data["usage"]["completion_tokens"] == 24


async def test_what_the_journal_does_not_have_is_said_so(two: Two) -> None:
    (event,) = await first(two.alice[0], "/v1/completions", TEXT, 1)
    token = Claim.parse(event.id or "").token
    entry = await two.journal.read(token.session_id)
    assert entry is not None
    ahead = ResumeToken(token.session_id, token.length + 40, token.prefix_hash)
    other = ResumeToken(token.session_id, token.length, token.prefix_hash ^ 1)
    secret = entry.session.opening.session_secret
    for wrong, expected in (
        (ahead.sealed(secret), (410, "data_loss", None)),
        (other.sealed(secret), (410, "data_loss", None)),
        (ResumeToken("0" * 32, 0, 0).sealed(b"secret"), (404, "session_not_found", "Last-Event-ID")),
    ):
        assert await refused(two.alice[1], "/v1/completions", TEXT, Last_Event_ID=wrong) == expected


# -- requests that are made again --------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", BODIES)
@pytest.mark.parametrize("stream", [True, False])
async def test_a_request_that_is_made_again_is_the_same(two: Two, path: str, stream: bool) -> None:  # noqa: FBT001
    """Without a seed, and with two choices: its first answer was left behind."""
    key = f"again {path} {stream}"
    body, whole = BODIES[path] | {"n": 2}, BODIES[path] | {"n": 2, "stream": False, "stream_options": None}
    begun = await first(two.alice[0], path, body, 5, key)
    if stream:
        again = [event async for event in events(two.alice[1], path, body, key=key)]
        assert all(again_.text.startswith(heard(begun)[index].text) for index, again_ in heard(again).items())
        seed = again[-1].data["metrics"]["seed"]
    else:
        answer = await two.alice[1].post(path, json=whole, headers={"Idempotency-Key": key})
        choices = answer.json()["choices"]
        texts = [choice.get("text", choice.get("message", {}).get("content")) for choice in choices]
        assert all(texts[index].startswith(one.text) for index, one in heard(begun).items())
        seed = answer.json()["metrics"]["seed"]
    assert seed == seed_of("alice", key) < 1 << 53
    rest = await rest_of(two.alice[0], path, body, begun[-1].id, key if stream else "")
    assert all(len(one.logprobs) == 24 for one in heard([*begun, *rest]).values())
    await two.nothing_is_left()


async def test_the_first_answer_is_taken_over(two: Two) -> None:
    body = TEXT | {"max_tokens": 400, "stream": False, "stream_options": None}
    known = {"Idempotency-Key": "twice"}
    before = asyncio.create_task(two.alice[0].post("/v1/completions", json=body, headers=known))
    await until(lambda: bool(two.gateways[0].gateway._running))
    again = await two.alice[1].post("/v1/completions", json=body, headers=known)
    error = (await before).json()["error"]
    assert ((await before).status_code, error["code"], again.status_code) == (409, "aborted", 200)
    assert again.json()["usage"]["completion_tokens"] == 400


async def test_a_key_is_one_requests_and_not_too_long(two: Two) -> None:
    known = "k" * MAX_KEY
    assert [event async for event in events(two.alice[0], "/v1/completions", TEXT, key=known)]
    other = await refused(two.alice[1], "/v1/completions", TEXT | {"max_tokens": 5}, Idempotency_Key=known)
    assert other == (400, None, "Idempotency-Key")
    for wrong in ("", known + "k"):
        status = await refused(two.alice[1], "/v1/completions", TEXT, Idempotency_Key=wrong)
        assert status == (400, None, "Idempotency-Key")
    assert seed_of("alice", known) != seed_of("bob", known)


async def test_openais_client_takes_the_events(two: Two) -> None:
    async with AsyncOpenAI(base_url=f"{two.alice[0].base_url}/v1", api_key=KEYS["alice"]) as client:
        stream = await client.completions.create(
            model="target", prompt="def ", max_tokens=4, stream=True, extra_headers={"Idempotency-Key": "openai"}
        )
        assert [chunk.choices[0].finish_reason async for chunk in stream][-1] == "length"


# -- what cannot be promised -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stream", [True, False])
async def test_what_cannot_be_resumed_says_so(two: Two, stream: bool) -> None:  # noqa: FBT001
    """The journal forgets a session while it runs: from then on events take their ids back."""
    body = TEXT | {"stream": stream, "stream_options": {"include_usage": True} if stream else None}
    if stream:
        going = events(two.alice[0], "/v1/completions", body)
        told = [await anext(going)]
        assert told[0].id
        await two.journal.close()
        told += [event async for event in going]
        assert told[-1].id == ""
        assert "warning" in told[-1].data["metrics"]
        metrics = told[-1].data["metrics"]
    else:
        answer = asyncio.create_task(two.alice[0].post("/v1/completions", json=body))
        await until(lambda: bool(two.gateways[0].gateway._running))
        await two.journal.close()
        metrics = (await answer).json()["metrics"]
    assert metrics["warning"] == NOT_RESUMABLE


async def test_a_gateway_that_stops_leaves_an_id_to_go_on_from(two: Two) -> None:
    body = TEXT | {"seed": 9, "max_tokens": 60}
    whole = [event async for event in events(two.alice[1], "/v1/completions", body)]
    going = events(two.alice[0], "/v1/completions", body)
    told = [await anext(going), await anext(going)]
    two.gateways[0].gateway.give_up()
    *more, broken = [event async for event in going]
    told += more
    assert broken.data["error"]["code"] == "unavailable"
    assert broken.id == told[-1].id
    rest = await rest_of(two.alice[1], "/v1/completions", body, broken.id)
    assert heard([*told, *rest]) == heard(whole)


async def test_who_reads_only_data_is_sent_nothing_else(two: Two) -> None:
    """As the clients that were made for OpenAI's streams: a line that is not data is an error to them."""
    body = {"prompt": "def ", "max_tokens": 4, "stream": True}
    async with two.alice[0].stream("POST", "/v1/completions", json=body) as answer:
        lines = [line async for line in answer.aiter_lines()]
    assert {line[:6] for line in lines} == {"data: ", ""}
