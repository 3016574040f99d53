"""What Redis knows of a fleet: how many of each pool were asked for last, and which workers are announced.

While it is away nothing is known, and the fleet goes on.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from redis.asyncio import Redis
from redis.exceptions import RedisError

from paceline.cluster.announcing import ROLES
from paceline.cluster.redis_client import connect
from paceline.cluster.registry import look
from paceline.errors import FieldError
from paceline.logs import get_logger

REPLICAS = "paceline:replicas"
"""A hash of pools that were scaled, for a supervisor that starts again."""
PATIENCE_SECONDS = 1.0

AnswerT = TypeVar("AnswerT")

logger = get_logger(__name__)


def announced(url: str) -> set[tuple[str, str, str]] | None:
    """Roles, names and addresses; None: nobody can tell."""

    async def ask(_: Redis) -> set[tuple[str, str, str]]:
        return {(said.role, said.worker_id, said.address) for said in await look(url, ROLES)}

    return _ask(url, ask)


def remember(url: str, pool: str, replicas: int) -> None:
    async def tell(redis: Redis) -> None:
        await redis.hset(REPLICAS, pool, str(replicas))

    _ask(url, tell)


def forget(url: str) -> None:
    async def tell(redis: Redis) -> None:
        await redis.delete(REPLICAS)

    _ask(url, tell)


def recall(url: str) -> dict[str, int] | None:
    """Replicas by pool; None: nobody can tell."""

    async def ask(redis: Redis) -> dict[str, int]:
        kept: dict[Any, Any] = await redis.hgetall(REPLICAS)
        return {pool.decode(): int(replicas) for pool, replicas in kept.items()}

    return _ask(url, ask)


def _ask(url: str, work: Callable[[Redis], Awaitable[AnswerT]]) -> AnswerT | None:
    async def attempt() -> AnswerT | None:
        async with connect(url, PATIENCE_SECONDS) as redis:
            try:
                return await work(redis)
            except (RedisError, OSError, FieldError) as error:
                logger.warning("redis is away", error=error)
                return None

    return asyncio.run(attempt())
