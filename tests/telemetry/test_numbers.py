"""Clients, gateway and verifiers count the same tokens in a fleet of processes, also when a verifier is killed."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import pytest

from paceline.client import GatewayClient
from paceline.cluster.local import LocalCluster
from paceline.messages import Completion, Generate
from tests.telemetry.conftest import ASKED
from tests.telemetry.scraping import Scrape

pytestmark = pytest.mark.asyncio(loop_scope="module")

PATIENCE_SECONDS = 20.0
EMITTED = "paceline_verify_emitted_tokens_total"


@dataclass(frozen=True)
class Answer:
    tokens: int
    done: Completion

    @property
    def emitted(self) -> int:
        return self.done.overlap.steps + self.done.overlap.accepted_nodes


async def answer(client: GatewayClient, asked: Generate, on_token: Callable[[], None] = lambda: None) -> Answer:
    tokens, done = 0, None
    async for chunk in client.generate(asked):
        tokens, done = tokens + len(chunk.token_ids), chunk.completion
        if chunk.token_ids:
            on_token()
    assert done is not None
    assert done.usage.completion_tokens == tokens
    assert sum(done.overlap.acceptance_histogram) == done.overlap.steps
    assert done.overlap.verified_nodes >= done.overlap.accepted_nodes
    return Answer(tokens, done)


class Counted:
    """What a gateway has counted since now."""

    def __init__(self, fleet: LocalCluster) -> None:
        self._fleet = fleet
        self._before = Scrape.of(fleet.http_address)

    def __getitem__(self, name: str) -> float:
        now = Scrape.of(self._fleet.http_address)
        return now.value(f"paceline_{name}_total") - self._before.value(f"paceline_{name}_total")

    async def settled(self) -> None:
        """A request is over here a moment after its client has heard so."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not self._adds_up() and time.monotonic() < deadline:  # noqa: ASYNC110 - another process
            await asyncio.sleep(0.02)
        assert self._adds_up()

    def _adds_up(self) -> bool:
        came = self["emitted_tokens"] + self["recalled_tokens"]
        went = self["completion_tokens"] + self["trimmed_tokens"] + self["unheard_tokens"]
        return came == went and self["session_steps"] + self["accepted_nodes"] == self["emitted_tokens"]


def emitted_by(fleet: LocalCluster, *names: str) -> float:
    return sum(Scrape.of(fleet.metrics_addresses[name]).value(EMITTED) for name in names)


async def test_all_count_the_same_tokens(fleet: LocalCluster) -> None:
    verifiers = [name for name in fleet.metrics_addresses if name.startswith("verifier")]
    counted, before = Counted(fleet), emitted_by(fleet, *verifiers)
    requests = [replace(ASKED, seed=seed, stop=("return",) if seed % 2 else ()) for seed in range(8)]
    async with GatewayClient(fleet.gateway_address) as client:
        answers = await asyncio.gather(*(answer(client, asked) for asked in requests))
        leaving = client.generate(replace(ASKED, seed=99))
        heard = 0
        async for chunk in leaving:
            heard += len(chunk.token_ids)
            if heard:
                break
        await leaving.aclose()
    await counted.settled()
    told = sum(each.tokens for each in answers)
    assert 0 <= counted["completion_tokens"] - told - heard <= ASKED.sampling.max_tokens - heard  # type: ignore[operator]
    assert counted["trimmed_tokens"] == sum(each.emitted - each.tokens for each in answers)
    deadline = time.monotonic() + PATIENCE_SECONDS
    while emitted_by(fleet, *verifiers) - before != counted["emitted_tokens"] + counted["unasked_tokens"]:
        assert time.monotonic() < deadline
        await asyncio.sleep(0.05)


async def test_all_count_the_same_tokens_when_a_verifier_is_killed(fleet: LocalCluster) -> None:
    counted, lost = Counted(fleet), "paceline_failovers_total"
    before = Scrape.of(fleet.http_address).value(lost, reason="lost")
    tokens, killed = 0, ""

    def kill_in_the_middle() -> None:
        nonlocal tokens, killed
        tokens += 1
        if tokens == 20:
            killed = "verifier-0"
            fleet.kill(killed)

    requests = [replace(ASKED, seed=seed, text=f"def f{seed}(") for seed in range(12)]
    async with GatewayClient(fleet.gateway_address) as client:
        answers = await asyncio.gather(*(answer(client, asked, kill_in_the_middle) for asked in requests))
    assert killed
    await counted.settled()
    assert Scrape.of(fleet.http_address).value(lost, reason="lost") > before
    assert counted["completion_tokens"] == sum(each.tokens for each in answers)
    assert counted["emitted_tokens"] == sum(each.emitted for each in answers)
    assert counted["session_steps"] == sum(each.done.overlap.steps for each in answers)
    assert counted["trimmed_tokens"] == counted["unheard_tokens"] == 0
