"""What a gateway asks of its workers ends with who asked for it."""

from __future__ import annotations

import asyncio
from pathlib import Path

from drafter_service.config import DrafterConfig
from paceline.client import GatewayClient
from paceline.messages import Generate
from paceline.speculation.policy import SpeculationParameters
from paceline.speculation.sampling import SamplingParameters
from tests.local_fleet import local_drafter, local_gateway, local_verifier

REQUESTS = 300


def calls() -> int:
    """Of gRPC clients in this process that have not ended."""
    coroutines = [task.get_coro() for task in asyncio.all_tasks()]
    return sum("_handle_status" in getattr(coroutine, "__qualname__", "") for coroutine in coroutines)


async def test_short_sessions_leave_no_call_to_their_drafters_behind(target_path: Path) -> None:
    """They are over at any point of an attachment: as it begins, while it is sent, when there is news of it."""
    speculation = SpeculationParameters(drafters=("ngram",))
    async with (
        local_verifier(target_path) as verifier,
        local_drafter(DrafterConfig(kind="ngram", verifiers=(verifier.address,))) as drafter,
        local_gateway([verifier], [drafter]) as local,
        GatewayClient(local.address) as client,
    ):
        places = asyncio.Semaphore(16)

        async def ask(tokens: int) -> None:
            sampling = SamplingParameters(max_tokens=tokens, ignore_eos=True)
            async with places:
                async for _ in client.generate(Generate(token_ids=(1, 2), sampling=sampling, speculation=speculation)):
                    pass

        await ask(40)  # the drafter's stream to the verifier stays
        await asyncio.sleep(0.2)
        before = calls()
        await asyncio.gather(*(ask(1 + index % 8) for index in range(REQUESTS)))
        async with asyncio.timeout(5):
            while calls() > before:  # noqa: ASYNC110 - of gRPC
                await asyncio.sleep(0.01)
