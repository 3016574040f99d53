"""Drafters that say what no drafter should, over real streams: they cost a little time, and nobody else anything."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from drafter_service.config import DrafterConfig
from paceline.client import GatewayClient
from paceline.messages import DrafterStatistics, Generate
from paceline.speculation.policy import Mode, SpeculationParameters
from paceline.speculation.sampling import SamplingParameters
from paceline.testing.drafters import ScriptedConfig, scripted_drafter
from paceline.testing.scripts import SCRIPTS
from tests.local_fleet import LocalDrafter, LocalVerifier, local_drafter, local_gateway, local_verifier
from verifier_service.quarantine import OFFENCES

PROMPT = (5, 6, 7, 8, 5, 6, 7, 8)
ASKED = Generate(token_ids=PROMPT, sampling=SamplingParameters(max_tokens=80, temperature=0.8, ignore_eos=True), seed=3)
MALFORMED = ("cyclic", "huge", "nan", "unreadable", "unframed")


@dataclass
class World:
    """A fleet of which one drafter follows a script; ``honest`` looks things up."""

    client: GatewayClient
    verifier: LocalVerifier
    scripted: LocalDrafter

    async def answer(self, *drafters: str, asked: Generate = ASKED) -> tuple[list[int], dict[str, DrafterStatistics]]:
        """The text drafted for by these, by nobody if there are none, and the figures of each."""
        mode = Mode.OVERLAPPED if drafters else Mode.OFF
        asked = replace(asked, speculation=SpeculationParameters(mode, drafters=drafters))
        chunks = [chunk async for chunk in self.client.generate(asked)]
        completion = chunks[-1].completion
        assert completion is not None
        figures = {drafter.drafter_id: drafter for drafter in completion.overlap.drafters}
        return [token_id for chunk in chunks for token_id in chunk.token_ids], figures


@contextlib.asynccontextmanager
async def world(target: Path, script: str, step: str = "2ms") -> AsyncIterator[World]:
    async with local_verifier(target, step=step) as verifier:
        model = str(target) if script == "perfect" else None
        config = ScriptedConfig(script, (verifier.address,), model, vocabulary_size=64, name="scripted")
        honest = DrafterConfig(kind="ngram", verifiers=(verifier.address,), name="honest")
        async with (
            scripted_drafter(config) as scripted,
            local_drafter(honest) as looking_up,
            local_gateway([verifier], [LocalDrafter(scripted.address, scripted.drafter), looking_up]) as gateway,
            GatewayClient(gateway.address) as client,
        ):
            yield World(client, verifier, LocalDrafter(scripted.address, scripted.drafter))


@pytest.mark.parametrize("script", SCRIPTS)
async def test_texts_are_the_target_s_own_whatever_is_said(target_path: Path, script: str) -> None:
    async with world(target_path, script) as fleet:
        own, _ = await fleet.answer()
        alone, figures = await fleet.answer("scripted")
        together, beside = await fleet.answer("scripted", "honest")
    assert alone == together == own
    assert beside["honest"].proposed > 0, "its place is its own"
    if script == "perfect":
        assert figures["scripted"].accepted > 5, "else nothing was ever believed"
    if script in MALFORMED:
        assert figures["scripted"].accepted == 0
        assert script == "unframed" or figures["scripted"].rejected > 0


@pytest.mark.parametrize("script", ["cyclic", "unreadable", "unframed"])
async def test_who_is_malformed_again_and_again_is_quarantined(
    target_path: Path, script: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Which is said once, and once it is out it is let in nowhere; nobody else is."""
    short = replace(ASKED, sampling=replace(ASKED.sampling, max_tokens=24))
    async with world(target_path, script) as fleet:
        own, _ = await fleet.answer(asked=short)
        rejected = 0
        for _ in range(OFFENCES):
            _, figures = await fleet.answer("scripted", "honest", asked=short)
            rejected += figures["scripted"].rejected if "scripted" in figures else 0
        said, figures = await fleet.answer("scripted", "honest", asked=short)
    told = [record.message for record in caplog.records if record.name == "verifier_service.quarantine"]
    assert [line.split(":")[0] for line in told] == ["drafter scripted sends malformed entries, quarantined for 5 s"]
    assert sorted(figures) == ["honest"]
    assert rejected == (0 if script == "unframed" else OFFENCES)
    assert said == own
