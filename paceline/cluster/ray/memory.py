"""What Redis knows of a fleet: what was asked of it last, and which workers are announced.

While it is away nothing is known, and the fleet goes on.
"""

from __future__ import annotations

import asyncio
import dataclasses
import json
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from redis.asyncio import Redis
from redis.exceptions import RedisError

from paceline.cluster.announcing import ROLES
from paceline.cluster.redis_client import connect
from paceline.cluster.registry import look
from paceline.cluster.topology import Topology, parse_topology
from paceline.logs import get_logger

PREFIX = "paceline:fleet:"
"""Of a fleet's key, which ends with the id of its supervisor: the same one when it is started again."""
PATIENCE_SECONDS = 1.0

AnswerT = TypeVar("AnswerT")

logger = get_logger(__name__)


@dataclass(frozen=True)
class Asked:
    """How a fleet should be; its Redis is left out, which is where this is kept."""

    topology: Topology
    autoscale: bool

    def dumps(self) -> str:
        topology = dataclasses.asdict(dataclasses.replace(self.topology, redis=None))
        return json.dumps({"topology": topology, "autoscale": self.autoscale})

    @classmethod
    def loads(cls, text: bytes | str, url: str) -> Asked:
        """Raises ``FieldError`` for what this version cannot read."""
        said = json.loads(text)
        return cls(dataclasses.replace(parse_topology(said["topology"]), redis=url), said["autoscale"])


def announced(url: str) -> set[tuple[str, str, str]] | None:
    """Roles, names and addresses; None: nobody can tell."""

    async def ask(_: Redis) -> set[tuple[str, str, str]]:
        return {(said.role, said.worker_id, said.address) for said in await look(url, ROLES)}

    return _ask(url, ask)


def remember(url: str, fleet: str, asked: Asked) -> None:
    async def tell(redis: Redis) -> None:
        await redis.set(PREFIX + fleet, asked.dumps())

    _ask(url, tell)


def forget(url: str, fleet: str) -> None:
    async def tell(redis: Redis) -> None:
        await redis.delete(PREFIX + fleet)

    _ask(url, tell)


def recall(url: str, fleet: str) -> Sequence[Asked] | None:
    """What was asked last, if anything was; None: nobody can tell."""

    async def ask(redis: Redis) -> Sequence[Asked]:
        kept = await redis.get(PREFIX + fleet)
        return [Asked.loads(kept, url)] if kept else []

    return _ask(url, ask)


def _ask(url: str, work: Callable[[Redis], Awaitable[AnswerT]]) -> AnswerT | None:
    async def attempt() -> AnswerT | None:
        async with connect(url, PATIENCE_SECONDS) as redis:
            try:
                return await work(redis)
            except (RedisError, OSError, ValueError) as error:
                logger.warning("redis is away", error=str(error))
                return None

    return asyncio.run(attempt())
