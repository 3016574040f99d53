"""Several generations of one request, as one stream."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Sequence
from contextlib import aclosing
from typing import TypeVar

from fastapi import Request

from gateway.http.errors import ClientGone
from paceline.errors import Unavailable
from paceline.messages import Chunk

ResultT = TypeVar("ResultT")
Batch = list[tuple[int, Chunk]]


def merged(generations: Sequence[AsyncGenerator[Chunk, None]]) -> AsyncGenerator[Batch, None]:
    """All chunks that have come since the last time, each with its generation's number; the first failure ends all."""
    return _alone(generations[0]) if len(generations) == 1 else _side_by_side(generations)


async def _alone(generation: AsyncGenerator[Chunk, None]) -> AsyncGenerator[Batch, None]:
    async with aclosing(generation):
        async for chunk in generation:
            yield [(0, chunk)]


async def _side_by_side(generations: Sequence[AsyncGenerator[Chunk, None]]) -> AsyncGenerator[Batch, None]:
    gathered: Batch = []
    news = asyncio.Event()

    async def pump(index: int, generation: AsyncGenerator[Chunk, None]) -> None:
        async with aclosing(generation):
            async for chunk in generation:
                gathered.append((index, chunk))
                news.set()

    tasks = [asyncio.create_task(pump(index, generation)) for index, generation in enumerate(generations)]
    for task in tasks:
        task.add_done_callback(lambda _: news.set())
    try:
        while gathered or not all(task.done() for task in tasks):
            await news.wait()
            news.clear()
            batch, gathered[:] = list(gathered), []
            if batch:
                yield batch
            _raise_failures(tasks)
        _raise_failures(tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _raise_failures(tasks: Sequence[asyncio.Task[None]]) -> None:
    for task in tasks:
        if task.cancelled():
            raise Unavailable("the answer was not read in time")
        if task.done():
            task.result()


async def unless_gone(request: Request, work: Awaitable[ResultT]) -> ResultT:
    """The result of ``work``, done in the task that asks for it, which is the reader that a generation knows; if the
    client closes its connection before, ends the work and raises ``ClientGone``."""
    try:
        async with asyncio.timeout(None) as patience:
            watch = asyncio.create_task(_when_gone(request, patience))
            try:
                return await work
            finally:
                watch.cancel()
    except TimeoutError:
        if patience.expired():
            raise ClientGone from None
        raise


async def _when_gone(request: Request, patience: asyncio.Timeout) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
    patience.reschedule(0.0)
