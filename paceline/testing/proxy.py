"""A TCP proxy that does to a connection what networks do, switched while it runs.

Faults belong to the wire, not to gRPC: what goes through may be anything, and both sides see what they would see of a
slow line, a cable that was pulled, or a peer that was reset.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
import struct
from collections.abc import AsyncIterator
from dataclasses import dataclass
from enum import Enum

CHUNK_BYTES = 16 << 10
_NO_LINGER = struct.pack("ii", 1, 0)


class Direction(Enum):
    UP = "from client to server"
    DOWN = "from server to client"


@dataclass(frozen=True)
class Line:
    """What a direction is like. ``jitter_seconds`` come on top of the latency, evenly drawn; nothing overtakes.

    What goes into a ``black_hole`` does not come out, and nobody is told, as when a cable is pulled. Once it is plugged
    in again what was lost is sent again, as TCP does.
    """

    latency_seconds: float = 0.0
    jitter_seconds: float = 0.0
    bytes_per_second: float = 0.0
    """0: no bound."""
    black_hole: bool = False


CLEAR = Line()


class _Pipe:
    """One direction of one connection."""

    def __init__(self, proxy: FaultProxy, direction: Direction, source: asyncio.StreamReader) -> None:
        self._proxy, self._direction, self._source = proxy, direction, source
        self._waiting: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(maxsize=64)

    async def carry(self, sink: asyncio.StreamWriter) -> None:
        """Until one side is done; the end of the stream is handed on, too."""
        async with asyncio.TaskGroup() as both:
            both.create_task(self._read())
            both.create_task(self._write(sink))

    async def _read(self) -> None:
        now, due, data = asyncio.get_running_loop().time, 0.0, b"?"
        while data:
            data = await self._source.read(CHUNK_BYTES)
            due = max(due, now() + self._proxy.delay(self._direction))
            await self._waiting.put((due, data))

    async def _write(self, sink: asyncio.StreamWriter) -> None:
        while True:
            due, data = await self._waiting.get()
            await asyncio.sleep(max(0.0, due - asyncio.get_running_loop().time()))
            await self._proxy.passable[self._direction].wait()
            if not data:
                sink.write_eof()
                return
            bytes_per_second = self._proxy.lines[self._direction].bytes_per_second
            if bytes_per_second:
                await asyncio.sleep(len(data) / bytes_per_second)
            sink.write(data)
            await sink.drain()


class FaultProxy:
    """Between clients of ``address`` and the server at ``target``. Faults hold for connections that are open, too."""

    def __init__(self, target: str, seed: int = 0) -> None:
        host, _, port = target.rpartition(":")
        self._host, self._port = host, int(port)
        self._random = random.Random(seed)
        self.lines = dict.fromkeys(Direction, CLEAR)
        self.passable = {direction: asyncio.Event() for direction in Direction}
        """Set unless a direction is a black hole."""
        self.set(CLEAR)
        self.refusing = False
        """Whether new connections are reset at once."""
        self._connections: dict[asyncio.StreamWriter, asyncio.StreamWriter] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._connected, "127.0.0.1", 0)

    async def stop(self) -> None:
        """Resets what is open and listens no more."""
        assert self._server is not None, "it was started"
        self._server.close()
        self.reset()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    @property
    def address(self) -> str:
        assert self._server is not None, "it was started"
        return f"127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    @property
    def connections(self) -> int:
        """Open ones."""
        return len(self._connections)

    # -- faults --------------------------------------------------------------------------------------------------------

    def set(self, line: Line, *directions: Direction) -> None:
        """What a direction is like from now on; both of them if none is named."""
        for direction in directions or tuple(Direction):
            self.lines[direction] = line
            if line.black_hole:
                self.passable[direction].clear()
            else:
                self.passable[direction].set()

    def reset(self) -> None:
        """Both sides of every connection see it reset (RST)."""
        for pair in list(self._connections.items()):
            for writer in pair:
                _abort(writer)

    def half_close(self, direction: Direction) -> None:
        """Who reads in this direction sees the end of the stream, and may go on writing."""
        for client, server in self._connections.items():
            (server if direction is Direction.UP else client).write_eof()

    def delay(self, direction: Direction) -> float:
        """Of the next bytes."""
        line = self.lines[direction]
        return line.latency_seconds + self._random.uniform(0.0, line.jitter_seconds)

    # -- connections ---------------------------------------------------------------------------------------------------

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None, "a connection is handled in one"
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        if self.refusing:
            _abort(writer)
            return
        try:
            further, onward = await asyncio.open_connection(self._host, self._port)
        except OSError:
            _abort(writer)
            return
        self._connections[writer] = onward
        try:
            await self._join(reader, writer, further, onward)
        finally:
            del self._connections[writer]
            for side in (writer, onward):
                side.close()

    async def _join(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        further: asyncio.StreamReader,
        onward: asyncio.StreamWriter,
    ) -> None:
        """Carries both directions; a side that is reset takes the other along."""
        try:
            async with asyncio.TaskGroup() as both:
                both.create_task(_Pipe(self, Direction.UP, reader).carry(onward))
                both.create_task(_Pipe(self, Direction.DOWN, further).carry(writer))
        except* (OSError, RuntimeError):  # the latter: the transport was closed under our hands
            for side in (writer, onward):
                _abort(side)


@contextlib.asynccontextmanager
async def fault_proxy(target: str, seed: int = 0) -> AsyncIterator[FaultProxy]:
    """A proxy that listens until the context is left."""
    proxy = FaultProxy(target, seed)
    await proxy.start()
    try:
        yield proxy
    finally:
        await proxy.stop()


def _abort(writer: asyncio.StreamWriter) -> None:
    """Closes with RST."""
    raw = writer.get_extra_info("socket")
    if raw is not None and raw.fileno() >= 0:
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)
    writer.transport.abort()
