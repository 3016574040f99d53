"""Redis as the parts of a fleet use it: an URL that was checked, a client that fails soon, and one line per outage."""

from __future__ import annotations

import asyncio
import re
from typing import Any
from urllib.parse import urlsplit

from redis.asyncio import ConnectionPool, Redis
from redis.asyncio.connection import parse_url
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from paceline.errors import FieldError
from paceline.logs import Logger
from paceline.speculation.fields import require

CONNECT_SECONDS, REPLY_SECONDS = 2.0, 5.0
CANCEL_SECONDS = 0.05
EXPECTED = "redis://HOST:PORT/DB, rediss://… or unix:///PATH"


def check_redis(field: str, url: object) -> None:
    """Raises ``FieldError``, without the URL's password, unless a client can be made from it; connects nowhere."""
    if not isinstance(url, str):
        raise FieldError(field, url, EXPECTED)
    try:
        parts = urlsplit(url)
        tcp = parts.scheme in ("redis", "rediss") and parts.hostname and re.fullmatch(r"(/\d*)?", parts.path)
        local = parts.scheme == "unix" and not parts.hostname and parts.path.strip("/")
        require(bool(tcp or local), field, shown(url), EXPECTED)
        connect(url).connection_pool.make_connection()  # type: ignore[no-untyped-call]
    except (ValueError, RedisError) as error:
        raise FieldError(field, shown(url), EXPECTED) from error
    except TypeError as error:
        raise FieldError(field, shown(url), f"options that redis-py knows ({error})") from error


def connect(url: str, patience_seconds: float = REPLY_SECONDS) -> Redis:
    """A client that connects when it is used, again whenever it must, and tries each command at most twice.

    It waits for a reply, and for a connection, no longer than ``patience_seconds``. Failures are ``RedisError`` or
    ``OSError``. Replies are bytes, whatever the URL says.
    """
    options: dict[str, Any] = {
        **parse_url(url),
        "socket_connect_timeout": min(CONNECT_SECONDS, patience_seconds),
        "socket_timeout": patience_seconds,
        "decode_responses": False,
        "protocol": 2,
        "retry": Retry(NoBackoff(), 1),
    }
    return Redis.from_pool(ConnectionPool(**options))


async def stop(task: asyncio.Task[None]) -> None:
    """Cancels a task that uses a client, and again until it is over.

    Each command is sent within ``asyncio.wait_for``, which before Python 3.12 loses a cancellation that comes when all
    is sent; the task would go on and wait for the reply.
    """
    while not task.done():
        task.cancel()
        await asyncio.wait([task], timeout=CANCEL_SECONDS)


def shown(url: str) -> str:
    """The URL without what it says of users and passwords."""
    return re.sub(r"(?<=://).*@", "", url.partition("?")[0])


class Contact:
    """Whether a server answers: one warning when it no longer does, one line when it does again."""

    def __init__(self, logger: Logger, url: str, without: str) -> None:
        """``without``: what there is none of meanwhile."""
        self._logger, self._url, self._without = logger, shown(url), without
        self._there = True

    def lost(self, error: object) -> None:
        if self._there:
            self._logger.warning("redis is away", redis=self._url, error=error, meanwhile=self._without)
        self._there = False

    def back(self, **details: object) -> None:
        if not self._there:
            self._logger.info("redis is back", redis=self._url, **details)
        self._there = True
