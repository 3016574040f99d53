"""The registry of workers in Redis: leases, incarnations, and who is there.

A worker's entry ``paceline:worker:ROLE:NAME`` lives as long as its lease, which it renews three times over; the set
``paceline:workers:ROLE`` names all entries, so that nobody has to scan. ``paceline:incarnation:ROLE:NAME`` is the
newest incarnation of a name and outlives its entries: a worker that finds a newer one than itself there is fenced.
Incarnations are nanoseconds since the epoch, or one more than the last where a clock is behind: they grow even if Redis
has lost all that it knew. They are compared as texts, since a number of Lua has 53 bits.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence

from redis.asyncio import Redis
from redis.exceptions import RedisError

from paceline.cluster.announcing import Announcement
from paceline.cluster.redis_client import Contact, connect, stop
from paceline.errors import Fenced, FieldError
from paceline.logs import get_logger

LEASE_SECONDS = 3.0
LOOK_SECONDS = 0.5
"""Between two looks at who is there."""
PATIENCE_SECONDS = 1.0
"""For a reply: whoever waits longer for a server that hangs would miss its return by more than a lease."""
FORGET_SECONDS = 2 * LEASE_SECONDS
"""For how long a Redis that answers has to miss a worker: after an outage it misses all of them at first."""
INCARNATION_SECONDS = 7 * 24 * 3600
"""How long a name's newest incarnation is kept after its last sign of life."""

_INDEX = "paceline:workers:{}"
_ENTRY = "paceline:worker:{}:{}"
_INCARNATION = "paceline:incarnation:{}:{}"

_ABOVE = "local function above(a, b) return #a > #b or (#a == #b and a > b) end\n"
_CLAIM = f"""{_ABOVE}
if above(ARGV[1], redis.call('GET', KEYS[1]) or '0') then
  redis.call('SET', KEYS[1], ARGV[1])
else
  redis.call('INCR', KEYS[1])
end
redis.call('PEXPIRE', KEYS[1], ARGV[2])
return redis.call('GET', KEYS[1])
"""
_RENEW = f"""{_ABOVE}
local newest = redis.call('GET', KEYS[1]) or '0'
if above(newest, ARGV[1]) then
  return newest
end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
redis.call('SET', KEYS[2], ARGV[3], 'PX', ARGV[4])
redis.call('SADD', KEYS[3], KEYS[2])
return ARGV[1]
"""
_WITHDRAW = """
if redis.call('GET', KEYS[1]) == ARGV[1] then
  redis.call('DEL', KEYS[2])
  redis.call('SREM', KEYS[3], KEYS[2])
end
"""
_LIST = """
local found = {}
for _, index in ipairs(KEYS) do
  for _, entry in ipairs(redis.call('SMEMBERS', index)) do
    local said = redis.call('GET', entry)
    if said then
      table.insert(found, said)
    else
      redis.call('SREM', index, entry)
    end
  end
end
return found
"""

logger = get_logger(__name__)


async def look(url: str, roles: Sequence[str]) -> list[Announcement]:
    """Who is announced now; raises ``RedisError`` or ``OSError`` if nobody can tell."""
    async with connect(url, PATIENCE_SECONDS) as redis:
        return [Announcement.from_json(said) for said in await _list(redis, [_INDEX.format(role) for role in roles])]


async def claim_incarnation(url: str, role: str, worker_id: str) -> int:
    """An incarnation newer than all before it of this name, who are fenced by it; by the clock if Redis is away."""
    now = time.time_ns()
    async with connect(url, PATIENCE_SECONDS) as redis:
        try:
            script = redis.register_script(_CLAIM)
            keys = [_INCARNATION.format(role, worker_id)]
            return int(await script(keys=keys, args=[now, _ms(INCARNATION_SECONDS)]))
        except (RedisError, OSError) as error:
            logger.warning("the incarnation is by the clock", **{role: worker_id}, error=error)
            return now


class Announcer:
    """Keeps a worker announced, and finds out when another one has taken its name."""

    def __init__(self, url: str, announcement: Announcement, on_fenced: Callable[[Fenced], None]) -> None:
        self._announcement, self._on_fenced = announcement, on_fenced
        self._redis = connect(url, PATIENCE_SECONDS)
        self._renew, self._withdraw = self._redis.register_script(_RENEW), self._redis.register_script(_WITHDRAW)
        role, name = announcement.role, announcement.worker_id
        self._keys = [_INCARNATION.format(role, name), _ENTRY.format(role, name), _INDEX.format(role)]
        self._contact = Contact(logger, url, "only those who know this worker find it")
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Announces in the background, from now on."""
        self._task = asyncio.create_task(self._stay_announced())

    async def close(self) -> None:
        """Withdraws what it has announced, if Redis is there, unless somebody newer has the name."""
        if self._task:
            await stop(self._task)
        try:
            await self._withdraw(keys=self._keys, args=[self._announcement.incarnation])
        except (RedisError, OSError) as error:
            logger.info("the announcement is left to expire", error=error)
        await self._redis.aclose()

    async def _stay_announced(self) -> None:
        while True:
            try:
                newest = await self._announce()
            except (RedisError, OSError) as error:
                self._contact.lost(error)
            else:
                self._contact.back()
                if newest > self._announcement.incarnation:
                    self._fenced(newest)
                    return
            await asyncio.sleep(LEASE_SECONDS / 3)

    async def _announce(self) -> int:
        """The newest incarnation of the name: ours, or we are no longer announced."""
        said = self._announcement
        lease, kept = _ms(LEASE_SECONDS), _ms(INCARNATION_SECONDS)
        return int(await self._renew(keys=self._keys, args=[said.incarnation, kept, said.to_json(), lease]))

    def _fenced(self, newest: int) -> None:
        said = self._announcement
        message = f"{said.role} {said.worker_id}: incarnation {newest} has taken the name of {said.incarnation}"
        logger.error("another one has taken the name: this one stops serving", error=message)
        self._on_fenced(Fenced(message))


class Watcher:
    """Tells again and again who is there, by all that is known: nobody is gone because Redis is."""

    def __init__(
        self, url: str, roles: Sequence[str], take: Callable[[Sequence[Announcement]], Awaitable[None]]
    ) -> None:
        """``take`` is given all workers of these roles after each look, whether or not anything has changed."""
        self._redis, self._take = connect(url, PATIENCE_SECONDS), take
        self._indexes = [_INDEX.format(role) for role in roles]
        self._contact = Contact(logger, url, "the workers that are known stay so, and no new ones are found")
        self._known: dict[tuple[str, str], Announcement] = {}
        self._missing: dict[tuple[str, str], float] = {}
        """Since when, by the monotonic clock."""
        self._malformed: set[bytes] = set()
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Looks once, if Redis is there, and then in the background."""
        await self._look()
        self._task = asyncio.create_task(self._watch())

    async def close(self) -> None:
        if self._task:
            await stop(self._task)
        await self._redis.aclose()

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            try:
                await self._look()
            except Exception:
                logger.exception("unexpected failure in watching the registry")

    async def _look(self) -> None:
        try:
            said = await _list(self._redis, self._indexes)
        except (RedisError, OSError) as error:
            self._contact.lost(error)
            self._missing.clear()
        else:
            self._contact.back()
            self._note(self._read(said), time.monotonic())
        await self._take(tuple(self._known.values()))

    def _note(self, found: Sequence[Announcement], now: float) -> None:
        for announcement in found:
            name = announcement.role, announcement.worker_id
            known = self._known.get(name)
            if known is None or known.incarnation <= announcement.incarnation:
                self._known[name] = announcement
        missing = self._known.keys() - {(announcement.role, announcement.worker_id) for announcement in found}
        self._missing = {name: self._missing.get(name, now) for name in missing}
        for name, since in self._missing.items():
            if now - since >= FORGET_SECONDS:
                role, worker_id = name
                logger.info("a worker is no longer announced", **{role: worker_id})
                del self._known[name]

    def _read(self, said: Sequence[bytes]) -> list[Announcement]:
        found, malformed = [], set[bytes]()
        for text in said:
            try:
                found.append(Announcement.from_json(text))
            except FieldError as error:
                malformed.add(text)
                if text not in self._malformed:  # once is enough
                    logger.warning("an entry of the registry is left out", error=error)
        self._malformed = malformed
        return found


async def _list(redis: Redis, indexes: Sequence[str]) -> Sequence[bytes]:
    """All entries that live; what has expired leaves its index."""
    found: Sequence[bytes] = await redis.register_script(_LIST)(keys=indexes)
    return found


def _ms(seconds: float) -> int:
    return round(seconds * 1000)
