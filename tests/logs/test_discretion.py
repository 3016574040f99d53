"""No log line holds a prompt, a text, a key or a session's secret: not at any level, and not when things go wrong."""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import logging
import secrets
import shutil
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from grpc import aio

from drafter_service.config import DrafterConfig
from gateway.callers import Callers, KeyEntry, hash_key
from gateway.http.app import make_app
from gateway.http.server import HttpServer
from gateway.text import TextCodec
from paceline.client import GatewayClient
from paceline.embedded import TARGET
from paceline.logs import JSON, TEXT, formatter, log_loop_error
from paceline.messages import Generate
from tests.local_fleet import LocalGateway, local_drafter, local_gateway, local_verifier

KEY, WORD = "pl-0123456789abcdefghij", "marzipanelephant"
PROMPT = f"def {WORD}("
SECRET = bytes(range(65, 97))


@contextlib.contextmanager
def everything_logged() -> Iterator[dict[str, io.StringIO]]:
    """All loggers at DEBUG, as the services' own handler writes them, in both forms."""
    logs, root = {form: io.StringIO() for form in (JSON, TEXT)}, logging.getLogger()
    handlers, before = [logging.StreamHandler(stream) for stream in logs.values()], root.level
    levels = {name: item.level for name, item in _loggers()}
    for form, handler in zip(logs, handlers, strict=True):
        handler.setFormatter(formatter(form))
        root.addHandler(handler)
    for logger in (root, *(item for _, item in _loggers())):
        logger.setLevel(logging.DEBUG)
    try:
        yield logs
    finally:
        for handler in handlers:
            root.removeHandler(handler)
        root.setLevel(before)
        for name, item in _loggers():
            item.setLevel(levels.get(name, logging.NOTSET))


def _loggers() -> list[tuple[str, logging.Logger]]:
    found = logging.getLogger().manager.loggerDict.items()
    return [(name, item) for name, item in found if isinstance(item, logging.Logger)]


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The embedded target, with a chat template that repeats what it dislikes."""
    path = tmp_path_factory.mktemp("target") / "target"
    shutil.copytree(TARGET, path)
    (path / "chat_template.jinja").write_text(
        "{% for m in messages %}{% if m.role == 'fool' %}{{ raise_exception(m.content) }}{% endif %}"
        "{{ m.content }}{% endfor %}"
    )
    return path


@contextlib.asynccontextmanager
async def fleet(path: Path) -> AsyncIterator[tuple[LocalGateway, str]]:
    callers = Callers([KeyEntry("team", hash_key(KEY))])
    async with (
        local_verifier(path) as verifier,
        local_drafter(DrafterConfig(kind="ngram", verifiers=(verifier.address,))) as drafter,
        local_gateway([verifier], [drafter], callers=callers) as gateway,
    ):
        server = HttpServer(make_app(gateway.gateway, callers))
        url = f"http://127.0.0.1:{await server.start('127.0.0.1', 0, insecure=False)}"
        try:
            yield gateway, url
        finally:
            await server.stop()


BODIES: list[tuple[str, dict[str, Any]]] = [
    ("completions", {"prompt": PROMPT, "max_tokens": 4}),
    ("completions", {"prompt": PROMPT, "max_tokens": 4, "stream": True}),
    ("completions", {"prompt": PROMPT, "max_tokens": -1, "stop": [WORD]}),
    ("completions", {"prompt": {WORD: PROMPT}}),
    ("completions", {"prompt": PROMPT, WORD: 1}),
    ("completions", {"prompt": PROMPT, "guided_regex": f"({WORD}", "max_tokens": 4}),
    ("completions", {"prompt": PROMPT, "model": WORD}),
    ("completions", {"prompt": PROMPT * 20_000}),
    ("chat/completions", {"messages": [{"role": "user", "content": PROMPT}], "max_tokens": 4}),
    ("chat/completions", {"messages": [{"role": "fool", "content": PROMPT}]}),
    ("chat/completions", {"messages": [{"role": WORD, "content": 1}]}),
]


async def ask_everything(url: str) -> set[int]:
    headers, statuses = {"Authorization": f"Bearer {KEY}"}, set[int]()
    async with httpx2.AsyncClient(base_url=f"{url}/v1/", headers=headers, timeout=20) as http:
        for path, body in BODIES:
            statuses.add((await http.post(path, json=body)).status_code)
        statuses.add((await http.post("completions", content=f'{{"prompt": "{PROMPT}'.encode())).status_code)
        refused = await http.post("completions", json=BODIES[0][1], headers={"Authorization": f"Bearer {KEY}x"})
        statuses.add(refused.status_code)
    return statuses


def assert_nothing_told(logs: dict[str, io.StringIO]) -> None:
    for log in (stream.getvalue() for stream in logs.values()):
        for secret in (WORD, KEY, SECRET.decode(), SECRET.hex(), repr(SECRET)):
            assert secret not in log, next(line for line in log.splitlines() if secret in line)
    for line in logs[JSON].getvalue().splitlines():
        assert {"timestamp", "level", "logger", "event"} <= json.loads(line).keys()


async def test_requests_leave_nothing_in_the_log(target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with everything_logged() as logs:
        monkeypatch.setattr(secrets, "token_bytes", lambda count: SECRET[:count])
        async with fleet(target) as (gateway, url):
            assert await ask_everything(url) == {200, 400, 401, 404}
            async with GatewayClient(gateway.address, KEY) as client:
                assert [chunk async for chunk in client.generate(Generate(text=PROMPT))][-1].completion
    assert all("refused" in log.getvalue() for log in logs.values())
    assert_nothing_told(logs)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
async def test_bugs_leave_their_places_and_no_more(target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What fails in the middle, with what it was given in its mouth."""

    def encode(_: TextCodec, text: str) -> list[int]:
        raise KeyError(text)

    with everything_logged() as logs:
        async with fleet(target) as (gateway, url):
            monkeypatch.setattr(TextCodec, "encode", encode)
            headers = {"Authorization": f"Bearer {KEY}"}
            async with httpx2.AsyncClient(base_url=url, headers=headers) as http:
                answer = await http.post("/v1/completions", json=BODIES[0][1])
            async with GatewayClient(gateway.address, KEY) as client:
                with pytest.raises(aio.AioRpcError):
                    _ = [chunk async for chunk in client.generate(Generate(text=PROMPT))]
    assert (answer.status_code, WORD in answer.text) == (500, False)
    for log in logs.values():
        assert log.getvalue().count("KeyError (what it says is not logged)") >= 2
        assert "in encode" in log.getvalue()
    assert_nothing_told(logs)


async def test_a_lost_task_is_logged_without_its_words() -> None:
    async def fail() -> None:
        raise ValueError(PROMPT)

    loop = asyncio.get_running_loop()
    loop.set_exception_handler(log_loop_error)
    with everything_logged() as logs:
        task = asyncio.create_task(fail())
        await asyncio.wait([task])
        del task
        await asyncio.sleep(0)
    for log in logs.values():
        assert "Task exception was never retrieved" in log.getvalue()
        assert "ValueError (what it says is not logged)" in log.getvalue()
    assert_nothing_told(logs)


def test_errors_of_the_machine_keep_their_words_and_their_causes() -> None:
    def fail() -> None:
        try:
            raise ValueError(PROMPT)
        except ValueError as error:
            raise ConnectionError("no route to host") from error

    with everything_logged() as logs:
        try:
            fail()
        except ConnectionError:
            logging.getLogger("a").exception("it failed")
    for said in (log.getvalue() for log in logs.values()):
        assert said.index("ValueError (what it says is not logged)") < said.index("ConnectionError: no route to host")
    assert_nothing_told(logs)
