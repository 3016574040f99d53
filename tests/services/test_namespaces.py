"""A fleet of hosts: gateway, verifier and two drafters each in a network namespace of its own, 2 ms apart; a link is
cut in mid-text and mended, and the text is the same."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from paceline.testing.network import Host, Switch, missing, network
from paceline.testing.processes import until

pytestmark = [
    pytest.mark.skipif(bool(missing()), reason=f"hosts of their own need {missing()}"),
    pytest.mark.asyncio(loop_scope="module"),
]

DELAY_SECONDS = 0.002
CUT_SECONDS = 2.5
"""Longer than a gateway waits for a sign of life of a verifier."""
TOKENS = 120
ASKED = {"prompt": "def read_lines(path):\n", "max_tokens": TOKENS, "seed": 7, "ignore_eos": True, "stream": True}
WORKERS = {"verifier", "draft", "ngram"}
UNDER_WAY_SECONDS = 0.3
"""By then a client has what was on its way when a link was cut."""
START_SECONDS, TEXT_SECONDS = 60.0, 30.0


@dataclass
class Reading:
    """An answer as it comes."""

    text: str = ""
    chunks: int = 0
    begun: asyncio.Event = field(default_factory=asyncio.Event)

    def take(self, chunk: Mapping[str, Any]) -> None:
        assert "error" not in chunk, chunk
        self.text += "".join(choice["text"] for choice in chunk["choices"])
        self.chunks += 1
        if self.chunks > 4:
            self.begun.set()


@dataclass(frozen=True)
class Fleet:
    switch: Switch
    hosts: Mapping[str, Host]

    async def lines(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> AsyncIterator[str]:
        """Of what the gateway answers to the client, headers first."""
        wire = await asyncio.to_thread(self.hosts["client"].dial, self.hosts["gateway"].address, 8000)
        reader, writer = await asyncio.open_connection(sock=wire)
        content = json.dumps(body).encode() if body else b""
        head = f"{method} {path} HTTP/1.0\r\nContent-Type: application/json\r\nContent-Length: {len(content)}\r\n\r\n"
        writer.write(head.encode() + content)
        try:
            while line := await reader.readline():
                yield line.decode().strip()
        finally:
            writer.close()

    async def well(self) -> bool:
        """Whether the gateway is there and finds all workers well."""
        try:
            *_, body = [line async for line in self.lines("GET", "/v1/workers")]
        except OSError:
            return False
        return {worker["id"] for worker in json.loads(body)["data"] if worker["healthy"]} == WORKERS

    async def read(self, reading: Reading, mode: str) -> str:
        body = ASKED | {"speculation": {"mode": mode}}
        async with asyncio.timeout(TEXT_SECONDS):
            async for line in self.lines("POST", "/v1/completions", body):
                if line.startswith("data: {"):
                    reading.take(json.loads(line.removeprefix("data: ")))
        return reading.text


def commands(hosts: Mapping[str, Host]) -> dict[str, list[str]]:
    """What each host runs."""
    verifier = f"{hosts['verifier'].address}:50052"
    drafters = ",".join(f"{hosts[name].address}:50053" for name in ("draft", "ngram"))
    draft = ["--kind=model", "--model=embedded:draft", "--name=draft", f"--verifiers={verifier}"]
    ngram = ["--kind=ngram", f"--verifiers={verifier}"]
    target = ["--target=embedded:target", "--threads=1", "--numerics=deterministic", "--emulate-step-time=20ms"]
    return {
        "verifier": ["verifier_service", *target],
        "draft": ["drafter_service", *draft],
        "ngram": ["drafter_service", *ngram],
        "gateway": ["gateway", f"--verifiers={verifier}", f"--drafters={drafters}"],
    }


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("hosts")


@contextlib.contextmanager
def running(hosts: Mapping[str, Host], folder: Path) -> Iterator[None]:
    """Every host's service, for as long as the context lasts."""
    processes: list[subprocess.Popen[bytes]] = []
    try:
        for name, (module, *flags) in commands(hosts).items():
            command = [sys.executable, "-m", module, "--host", hosts[name].address, "--insecure", *flags]
            processes.append(hosts[name].start(command, folder / f"{name}.log", os.environ))
        yield
    finally:
        for process in processes:
            process.kill()
            process.wait()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def fleet(folder: Path) -> AsyncIterator[Fleet]:
    with network(["client", "gateway", "verifier", "draft", "ngram"], DELAY_SECONDS) as (switch, hosts):
        there = Fleet(switch, hosts)
        with running(hosts, folder):
            await until(there.well, START_SECONDS)
            yield there


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def expected(fleet: Fleet) -> str:
    """The target alone, over a network that is well."""
    return await fleet.read(Reading(), "off")


async def test_drafters_help_across_hosts(fleet: Fleet, expected: str) -> None:
    reading = Reading()
    assert await fleet.read(reading, "overlapped") == expected
    assert reading.chunks < TOKENS, "some steps brought more than one token"


@pytest.mark.parametrize("name", ["verifier", "draft"])
async def test_a_link_that_is_cut_and_mended_changes_no_text(fleet: Fleet, expected: str, name: str) -> None:
    reading = Reading()
    answer = asyncio.create_task(fleet.read(reading, "overlapped"))
    await reading.begun.wait()
    fleet.switch.cut(fleet.hosts[name])
    await asyncio.sleep(UNDER_WAY_SECONDS)
    before = reading.chunks
    if name == "verifier":
        await asyncio.sleep(CUT_SECONDS)
        assert reading.chunks == before, "no text goes on without its verifier"
    else:

        async def goes_on() -> bool:
            return reading.chunks > before

        await until(goes_on, TEXT_SECONDS)  # without its drafter
    fleet.switch.mend(fleet.hosts[name])
    assert await answer == expected
    await until(fleet.well, TEXT_SECONDS)
