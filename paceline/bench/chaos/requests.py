"""What clients ask while workers die, and what they are told when none does."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import replace

from paceline.bench.prompts import CODE_PROMPTS
from paceline.client import GatewayClient
from paceline.messages import Generate
from paceline.speculation.grammar import Grammar, GrammarKind
from paceline.speculation.policy import SpeculationParameters
from paceline.speculation.sampling import SamplingParameters

SEEDS = 4
GRAMMAR = Grammar(GrammarKind.REGEX, "(alpha|beta|gamma|delta)(, (alpha|beta|gamma|delta)){20,40}")


def make_requests(tokens: int, seed: int, prompts: int = len(CODE_PROMPTS)) -> list[Generate]:
    """Each prompt greedy, sampled, with penalties, and held to a grammar; sampled ones with several seeds."""
    greedy = SamplingParameters(max_tokens=tokens, temperature=0.0, ignore_eos=True)
    sampled = replace(greedy, temperature=0.9)
    kinds = [
        (greedy, 1),
        (sampled, SEEDS),
        (replace(sampled, presence_penalty=0.5, frequency_penalty=0.3, repetition_penalty=1.1), SEEDS),
        (replace(sampled, ignore_eos=False, grammar=GRAMMAR), 1),
        (replace(sampled, logprobs=2, min_tokens=tokens // 2, ignore_eos=False), 1),
    ]
    requests = [
        Generate(text=prompt, sampling=sampling, speculation=SpeculationParameters(), seed=seed + index)
        for prompt in CODE_PROMPTS[:prompts]
        for sampling, seeds in kinds
        for index in range(seeds)
    ]
    random.Random(seed).shuffle(requests)
    return requests


async def undisturbed(gateways: Sequence[str], requests: Sequence[Generate], clients: int) -> list[list[int]]:
    """The tokens of each request, asked by so many clients, while nothing fails."""
    waiting, texts = iter(enumerate(requests)), dict[int, list[int]]()

    async def ask(gateway: GatewayClient) -> None:
        for number, request in waiting:
            texts[number] = [token async for chunk in gateway.generate(request) for token in chunk.token_ids]

    async with AsyncExitStack() as stack:
        turns = [[*gateways[client % 2 :], *gateways[: client % 2]] for client in range(clients)]
        connected = [await stack.enter_async_context(GatewayClient(turn)) for turn in turns]
        await asyncio.gather(*map(ask, connected))
    return [texts[number] for number in range(len(requests))]
