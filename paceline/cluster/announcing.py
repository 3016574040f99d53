"""What a worker says of itself in the registry, for as long as it serves. Without Redis nobody is told anything."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass

from paceline.errors import Fenced, FieldError
from paceline.speculation.fields import Checks, require
from paceline.speculation.policy import MAX_NAME

VERIFIER, DRAFTER = "verifier", "drafter"
ROLES = (VERIFIER, DRAFTER)
_ALL_ADDRESSES = ("", "0.0.0.0", "::", "[::]")  # noqa: S104 - these need another address for others


@dataclass(frozen=True)
class Announcement:
    """A worker that serves, under a name that is its own within its role."""

    worker_id: str
    role: str
    address: str
    incarnation: int
    """The fencing token: greater than that of every worker of this name before."""
    model: str = ""
    """Of a verifier: what clients ask for."""

    def __post_init__(self) -> None:
        require(self.role in ROLES, "role", self.role, f"one of {', '.join(ROLES)}")
        require(self.incarnation > 0, "incarnation", self.incarnation, "more than 0")
        for field, least in (("worker_id", 1), ("address", 1), ("model", 0)):
            length = len(getattr(self, field))
            require(least <= length <= MAX_NAME, field, f"{length} characters", f"{least} to {MAX_NAME}")

    def to_json(self) -> str:
        return json.dumps(vars(self))

    @classmethod
    def from_json(cls, text: bytes) -> Announcement:
        """Raises ``FieldError`` for what no worker says."""
        try:
            said = json.loads(text)
        except ValueError as error:
            raise FieldError("announcement", text[:MAX_NAME], "JSON") from error
        types = {"worker_id": str, "role": str, "address": str, "incarnation": int, "model": str}
        right = isinstance(said, dict) and {name: type(value) for name, value in said.items()} == types
        require(right, "announcement", said, f"an object of {', '.join(types)}")
        return cls(**said)


async def claim(url: str | None, role: str, worker_id: str) -> int:
    """The incarnation of a worker that starts; by its clock where there is no Redis, or none that answers."""
    if url is None:
        return time.time_ns()
    from paceline.cluster.registry import claim_incarnation

    return await claim_incarnation(url, role, worker_id)


@contextlib.asynccontextmanager
async def announced(
    url: str | None, announcement: Announcement, on_fenced: Callable[[Fenced], None]
) -> AsyncIterator[None]:
    """Inside, the worker is announced; ``on_fenced`` is called once if another one takes its name."""
    if url is None:
        yield
        return
    from paceline.cluster.registry import Announcer

    announcer = Announcer(url, announcement, on_fenced)
    await announcer.start()
    try:
        yield
    finally:
        await announcer.close()


def check_announcing(checks: Checks, url: str | None, host: str, advertise: str) -> None:
    """Notes what is wrong with the settings ``redis`` and ``advertise`` of a worker that listens on ``host``."""
    if url is None:
        return
    from paceline.cluster.redis_client import check_redis

    with checks.caught():
        check_redis("redis", url)
    expected = f"the address under which others reach this worker, since it listens on {host or 'all'}"
    checks.require(bool(advertise) or host not in _ALL_ADDRESSES, "advertise", advertise, expected)
