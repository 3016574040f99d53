"""Answers asked for to be drawn."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from paceline.client import GatewayClient
from paceline.messages import Chunk, Generate
from paceline.speculation.policy import NO_SCOPE, Mode


def repeatable(request: Generate) -> Generate:
    """With events, a seed, and apart from what else was said: a second run finds nothing of the first in the cache."""
    seed = secrets.randbits(63) if request.seed is None else request.seed
    return replace(request, seed=seed, speculation=replace(request.speculation, events=True, cache_scope=NO_SCOPE))


async def drawn_in(client: GatewayClient, request: Generate, mode: Mode) -> list[dict[str, Any]]:
    """What happened in the answer to the request in this mode."""
    other = replace(request, speculation=replace(request.speculation, mode=mode))
    return await drawn(client, [chunk async for chunk in client.generate(other)])


async def drawn(client: GatewayClient, chunks: Sequence[Chunk]) -> list[dict[str, Any]]:
    """What happened in an answer that asked for events, as its gateway keeps it."""
    done = chunks[-1].completion
    assert done is not None, "a stream that ends without an error ends with its completion"
    answers: list[dict[str, Any]] = (await client.timeline(done.trace_id))["answers"]
    return answers
