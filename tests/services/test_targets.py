"""One drafter for two targets at once: each says what it says alone, and what is learned of one is not used for the
other."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import grpc
import pytest
from grpc import aio

from drafter_service.config import DrafterConfig
from drafter_service.drafters.scopes import PerTarget, ScopedMemories
from paceline.client import GatewayClient
from paceline.cluster.local import LocalCluster
from paceline.cluster.topology import DrafterPool, ModelRoute, Topology, VerifierPool
from paceline.messages import Chunk, Completion, Generate, OverlapStatistics
from paceline.speculation.policy import Mode, SpeculationParameters
from paceline.speculation.sampling import SamplingParameters
from tests.drafter_service.growing import session_of
from tests.in_process import InProcess, load, make_drafter
from tests.local_fleet import local_drafter, local_gateway, local_verifier
from tests.services.test_kinds import KINDS

SAMPLING = SamplingParameters(max_tokens=60, temperature=0.8, ignore_eos=True)
OFF, LOCKSTEP = SpeculationParameters(mode=Mode.OFF), SpeculationParameters(mode=Mode.LOCKSTEP)
PROMPTS = {"one": (1, 2, 3, 1, 2, 3, 4, 1, 2), "other": (7, 8, 7, 8, 9, 7, 8)}


def statistics(world: InProcess, name: str) -> OverlapStatistics:
    overlap = world.recorder.last[name].overlap
    assert overlap is not None
    return overlap


def say(world: InProcess, name: str, speculation: SpeculationParameters | None = None) -> list[int]:
    world.open(name, PROMPTS[world.model], SAMPLING, speculation, seed=3)
    world.run()
    return world.recorder.tokens[name]


@pytest.mark.parametrize("kind", KINDS)
def test_both_at_once_say_what_each_says_alone(kind: str, target_path: Path, other_path: Path) -> None:
    paths = {"one": target_path, "other": other_path}
    alone = {name: say(InProcess(load(path), model=name), "s", OFF) for name, path in paths.items()}
    assert alone["one"] != alone["other"]
    drafter = make_drafter(KINDS[kind](target_path), 64)
    worlds = {name: InProcess(load(path), [drafter], model=name) for name, path in paths.items()}
    for name, world in worlds.items():
        say(world, f"{name}-before")
        settle(drafter.kind)
        for number in range(3):
            world.open(f"{name}-{number}", PROMPTS[name], SAMPLING, LOCKSTEP, seed=3)
    while any(world.verifier.busy for world in worlds.values()):
        drafter.grow()
        for world in worlds.values():
            world.verifier.step()
    for name, world in worlds.items():
        for number in range(3):
            assert world.recorder.tokens[f"{name}-{number}"] == alone[name]
            (drafted,) = statistics(world, f"{name}-{number}").drafters
            assert drafted.proposed > 0
            assert drafted.accepted <= drafted.verified <= drafted.proposed


@pytest.mark.parametrize("kind", KINDS)
def test_a_target_leaves_no_trace_in_what_is_drafted_for_another(
    kind: str, target_path: Path, other_path: Path
) -> None:
    """Sessions of one target go exactly alike, node for node, whether or not another was served in between."""
    runs = list[list[OverlapStatistics]]()
    for both in (False, True):
        drafter = make_drafter(KINDS[kind](target_path), 64)
        one = InProcess(load(target_path), [drafter], model="one")
        other = InProcess(load(other_path), [drafter], model="other")
        seen = list[OverlapStatistics]()
        for number in range(3):
            say(one, f"one-{number}")
            settle(drafter.kind)
            seen.append(statistics(one, f"one-{number}"))
            if both:
                say(other, f"other-{number}")
                settle(drafter.kind)
        runs.append([timeless(overlap) for overlap in seen])
    assert runs[0] == runs[1]


def settle(kind: object) -> None:
    """Lets a memory that sorts beside the drafting finish."""
    memory = getattr(kind, "_memory", None)
    if memory is not None:
        memory.settle()


def timeless(overlap: OverlapStatistics) -> OverlapStatistics:
    drafters = tuple(replace(drafter, busy_seconds=0.0) for drafter in overlap.drafters)
    return replace(overlap, drafters=drafters, drafter_idle_seconds=0.0)


def test_estimates_and_memories_are_kept_by_target() -> None:
    estimates, memories = PerTarget[list[int]](list), ScopedMemories[list[int]](list)
    for kept in (estimates, memories):
        seen = [kept.of(session_of([1], model=model)) for model in ("one", "other", "one")]
        assert seen[0] is seen[2]
        assert seen[0] is not seen[1]
    assert estimates.of(session_of([1], temperature=0.0)) is not estimates.of(session_of([1]))


# -- over real streams -------------------------------------------------------------------------------------------------


def asked(model: str, speculation: SpeculationParameters | None = None) -> Generate:
    speculation = speculation or SpeculationParameters()
    return Generate(model=model, token_ids=PROMPTS[model], sampling=SAMPLING, speculation=speculation, seed=3)


async def collect(client: GatewayClient, request: Generate) -> tuple[list[int], Completion]:
    chunks: list[Chunk] = [chunk async for chunk in client.generate(request)]
    done = chunks[-1].completion
    assert done is not None
    return [token_id for chunk in chunks for token_id in chunk.token_ids], done


async def test_drafters_are_chosen_by_the_verifiers_that_they_may_dial(target_path: Path, other_path: Path) -> None:
    async with local_verifier(target_path, "one") as one, local_verifier(other_path, "other") as other:
        both = DrafterConfig(kind="recycling", verifiers=(one.address, other.address), name="both")
        single = DrafterConfig(kind="ngram", verifiers=(one.address,), name="single")
        async with (
            local_drafter(both) as shared,
            local_drafter(single) as own,
            local_gateway([one, other], [shared, own]) as local,
            GatewayClient(local.address) as client,
        ):
            alone = {name: (await collect(client, asked(name, OFF)))[0] for name in PROMPTS}
            answers = await asyncio.gather(*(collect(client, asked(name, LOCKSTEP)) for name in list(PROMPTS) * 4))
            for name, (text, done) in zip(list(PROMPTS) * 4, answers, strict=True):
                assert text == alone[name]
                drafted = {drafter.drafter_id for drafter in done.overlap.drafters}
                assert drafted == ({"both", "single"} if name == "one" else {"both"})
            named = SpeculationParameters(drafters=("single",))
            with pytest.raises(aio.AioRpcError, match="drafters = 'single': expected one of both") as caught:
                await collect(client, asked("other", named))
            assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
            assert (await collect(client, asked("one", named)))[0] == alone["one"]


async def test_a_pool_that_two_models_name_is_started_once(target_path: Path, other_path: Path) -> None:
    topology = Topology(
        models=(
            ModelRoute("one", str(target_path), "verifier", ("lookup",)),
            ModelRoute("other", str(other_path), "verifier", ("lookup",)),
        ),
        verifiers={"verifier": VerifierPool()},
        drafters={"lookup": DrafterPool("recycling")},
    )
    async with LocalCluster(topology) as cluster, GatewayClient(cluster.gateway_address) as client:
        names = sorted(worker.name for worker in cluster.workers)
        assert names == ["gateway", "lookup", "verifier-one", "verifier-other"]
        texts = {}
        for name in PROMPTS:
            alone, _ = await collect(client, asked(name, OFF))
            await collect(client, asked(name))  # by the end of which the drafter has dialled the verifier
            texts[name], done = await collect(client, asked(name, LOCKSTEP))
            assert texts[name] == alone
            assert [drafter.drafter_id for drafter in done.overlap.drafters] == ["lookup"]
            assert done.overlap.drafters[0].proposed > 0
        assert texts["one"] != texts["other"]
