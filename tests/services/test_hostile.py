"""Drafters that say what no drafter should, over real streams: they cost a little time, and nobody else anything."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from drafter_service.config import DrafterConfig
from paceline import rpc, wire
from paceline.client import GatewayClient
from paceline.messages import DrafterStatistics, DraftUpdate, Generate, SessionEvent
from paceline.speculation.merge import CREDIT
from paceline.speculation.merit import ENOUGH_NODES
from paceline.speculation.policy import LOCKSTEP_TIMEOUT_SECONDS, Mode, SpeculationParameters
from paceline.speculation.sampling import SamplingParameters
from paceline.testing.drafters import ScriptedConfig, scripted_drafter
from paceline.testing.scripts import SCRIPTS, GuessingKind
from tests.checkpoints import write_checkpoint
from tests.in_process import InProcess, load, make_drafter
from tests.local_fleet import LocalDrafter, LocalVerifier, local_drafter, local_gateway, local_verifier
from tests.services.test_verifier import OPENING, join, nodes
from verifier_service.quarantine import OFFENCES
from verifier_service.session import MISSED_ROUNDS

PROMPT = (5, 6, 7, 8, 5, 6, 7, 8)
ASKED = Generate(token_ids=PROMPT, sampling=SamplingParameters(max_tokens=80, temperature=0.8, ignore_eos=True), seed=3)
VOCABULARY_SIZE = 2000
MALFORMED = ("cyclic", "huge", "nan", "unreadable", "unframed")


@dataclass
class World:
    """A fleet of which one drafter follows a script; ``honest`` looks things up."""

    client: GatewayClient
    verifier: LocalVerifier
    scripted: LocalDrafter

    async def answer(
        self, *drafters: str | None, asked: Generate = ASKED
    ) -> tuple[list[int], dict[str, DrafterStatistics]]:
        """The text drafted for by these, by nobody if there are none, and the figures of each; None: the gateway
        chooses."""
        mode = Mode.OVERLAPPED if drafters else Mode.OFF
        named = None if None in drafters else tuple(name for name in drafters if name)
        asked = replace(asked, speculation=SpeculationParameters(mode, drafters=named))
        chunks = [chunk async for chunk in self.client.generate(asked)]
        completion = chunks[-1].completion
        assert completion is not None
        figures = {drafter.drafter_id: drafter for drafter in completion.overlap.drafters}
        return [token_id for chunk in chunks for token_id in chunk.token_ids], figures


@contextlib.asynccontextmanager
async def world(target: Path, script: str, vocabulary_size: int = 64) -> AsyncIterator[World]:
    perfect = script == "perfect"  # it runs the target itself, and is to be believed before the step after is over
    async with local_verifier(target, step="15ms" if perfect else "2ms") as verifier:
        model = str(target) if perfect else None
        config = ScriptedConfig(script, (verifier.address,), model, vocabulary_size, name="scripted")
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
        assert figures["scripted"].accepted > 0, "else nothing was ever believed"
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
    assert [line.split(" detail=")[0] for line in told] == ["a drafter is quarantined drafter=scripted seconds=5"]
    assert sorted(figures) == ["honest"]
    assert rejected == (0 if script == "unframed" else OFFENCES)
    assert said == own


async def test_who_is_never_right_drafts_no_more_and_is_not_asked_again(tmp_path: Path) -> None:
    """It keeps its place for as long as the session goes on, and costs nothing there."""
    target = write_checkpoint(tmp_path, vocab_size=VOCABULARY_SIZE)  # large enough that chance is hardly ever right
    asked = replace(ASKED, sampling=replace(ASKED.sampling, max_tokens=200))
    async with world(target, "random", VOCABULARY_SIZE) as fleet:
        _, figures = await fleet.answer(None, asked=asked)
        useless = figures["scripted"]
        assert not useless.drafting
        assert useless.accepted < 5
        assert useless.steps < 130
        _, figures = await fleet.answer(None, asked=asked)
        assert "scripted" not in figures


@pytest.mark.parametrize("mode", [Mode.OVERLAPPED, Mode.LOCKSTEP])
async def test_who_says_nothing_is_not_waited_for(target_path: Path, mode: Mode) -> None:
    """Not at all, or in lockstep for the first few rounds."""
    async with world(target_path, "silent") as fleet:
        speculation = SpeculationParameters(mode, drafters=("scripted",))
        chunks = [chunk async for chunk in fleet.client.generate(replace(ASKED, speculation=speculation))]
    completion = chunks[-1].completion
    assert completion is not None
    rounds = 0 if mode is Mode.OVERLAPPED else MISSED_ROUNDS
    allowance = 0.1  # seconds in all, for a machine that does something else meanwhile
    assert completion.overlap.verifier_wait_seconds < rounds * LOCKSTEP_TIMEOUT_SECONDS + allowance


async def test_one_bad_message_stops_drafting_for_its_own_session_alone(target_path: Path) -> None:
    """A bug that servers shipped: the thread that reads ended with the first message that it could not read."""
    async with local_verifier(target_path, step="20ms") as verifier, rpc.channel(verifier.address) as connection:
        stub = wire.verifier_stub(connection)
        decoding, drafting = stub.Decode(), stub.Speculate()
        for name in ("s", "t"):
            await decoding.write(wire.to_decode_command(replace(OPENING, session_id=name)))
        garbage = wire.to_draft_update(DraftUpdate(nodes=(nodes([4], [0]), nodes([4, 5], [0, 1], session_id="t"))))
        garbage.nodes[0].log_scores_f32 += b"?"
        await drafting.write(wire.to_draft_update(DraftUpdate(joins=(join("s"), join("t")))))
        heard = [wire.from_verdicts(await drafting.read())]  # that it was let in
        await drafting.write(garbage)
        ended: dict[str, SessionEvent] = {}
        while len(ended) < 2:
            ended |= {event.session_id: event for event in wire.from_decode_events(await decoding.read()) if event.last}
        while not any(verdict.ended for verdicts in heard for verdict in verdicts.verdicts):
            heard.append(wire.from_verdicts(await drafting.read()))
        drafting.cancel()
        decoding.cancel()
    drafted = {name: event.overlap.drafters[0] for name, event in ended.items() if event.overlap is not None}
    assert (drafted["s"].proposed, drafted["s"].rejected) == (0, 1)
    assert (drafted["t"].proposed, drafted["t"].rejected) == (2, 0)
    assert [r.session_id for verdicts in heard for r in verdicts.rejected] == ["s"]
    assert {verdict.session_id for verdicts in heard for verdict in verdicts.verdicts if verdict.ended} == {"t"}


def test_who_is_never_right_gets_no_more_credit(tmp_path: Path) -> None:
    """It is told so at once: what it may send ends with what has come."""
    target = load(write_checkpoint(tmp_path, vocab_size=VOCABULARY_SIZE))
    fleet = InProcess(target, [make_drafter(GuessingKind(VOCABULARY_SIZE), VOCABULARY_SIZE)])
    fleet.open("s", PROMPT, SamplingParameters(max_tokens=120))
    fleet.run()
    overlap = fleet.recorder.last["s"].overlap
    assert overlap is not None
    (useless,) = overlap.drafters
    assert ENOUGH_NODES <= useless.proposed < ENOUGH_NODES + CREDIT
