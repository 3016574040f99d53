"""The gateway's view of its workers: who is there, what they are, and the streams to them."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Callable, Sequence

import grpc
from grpc import aio

from gateway.mailbox import Mailbox
from gateway.text import TextCodec
from paceline import rpc, wire
from paceline.errors import Unavailable
from paceline.messages import (
    Attach,
    Attached,
    DecodeCommand,
    DrafterDescription,
    OpenSession,
    SessionEvent,
    VerifierDescription,
)

logger = logging.getLogger(__name__)

RETRY_SECONDS = 0.1
DESCRIBE_TIMEOUT_SECONDS = 2.0
DESCRIBE_SECONDS = 1.0
"""Between two looks at what a worker has to do for others."""


class VerifierWorker:
    """One verifier: its description, its tokenizer, and the stream that carries all our sessions there."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.description: VerifierDescription | None = None
        self.codec: TextCodec | None = None
        self.healthy = False
        self.others = 0
        """Sessions of other gateways there, when it was last asked."""
        self.on_change: Callable[[], None] = lambda: None
        """Called when it may take more sessions than before, or none."""
        self._channel = rpc.channel(address)
        self._stub = wire.verifier_stub(self._channel)
        self._commands: rpc.Outgoing[DecodeCommand] | None = None
        self._sessions: dict[str, Mailbox] = {}
        self._closing = False
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Connects in the background, and again whenever the stream breaks."""
        self._task = asyncio.create_task(self._stay_connected())

    async def close(self) -> None:
        self._closing = True
        if self._task:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        await self._channel.close()

    @property
    def load(self) -> int:
        """Our sessions there."""
        return len(self._sessions)

    @property
    def sessions(self) -> int:
        """Everybody's sessions there."""
        return self.load + self.others

    def open(self, opening: OpenSession, events: Mailbox) -> None:
        """Opens a session; its events come in the mailbox, the last one with a finish reason or a rejection."""
        self.send(opening)
        self._sessions[opening.session_id] = events

    def send(self, command: DecodeCommand) -> None:
        if self._commands is None:
            raise Unavailable(f"verifier {self.address} is not connected")
        self._commands.send(command)

    def forget(self, session_id: str) -> None:
        """Its events are no longer wanted."""
        self._sessions.pop(session_id, None)

    async def _stay_connected(self) -> None:
        while True:
            try:
                await self._learn()
                await self._decode()
            except aio.AioRpcError as error:
                if self.healthy:
                    logger.warning("verifier %s: %s", self.address, error.details())
            except asyncio.CancelledError:
                if self._closing:  # else gRPC has cancelled its own call
                    raise
            except Exception:
                logger.exception("verifier %s: unexpected failure", self.address)
            finally:
                self._lost()
            await asyncio.sleep(RETRY_SECONDS)

    async def _learn(self) -> None:
        described = await self._stub.Describe(wire.verifier.DescribeVerifierRequest(), timeout=DESCRIBE_TIMEOUT_SECONDS)
        description = wire.from_verifier_description(described)
        have = self.codec.hash if self.codec else ""
        if self.codec is None or have != description.model.tokenizer_hash:
            request = wire.verifier.GetTokenizerRequest()
            reply = await self._stub.GetTokenizer(request, timeout=DESCRIBE_TIMEOUT_SECONDS)
            self.codec = TextCodec(wire.from_tokenizer_files(reply))
        self.description = description

    async def _decode(self) -> None:
        commands: rpc.Outgoing[DecodeCommand] = rpc.Outgoing(asyncio.get_running_loop())
        stream = self._stub.Decode(_requests(commands))
        await stream.wait_for_connection()
        self._commands, self.healthy = commands, True
        self.on_change()
        looking = asyncio.create_task(self._look_again())
        try:
            async for message in stream:
                for event in wire.from_decode_events(message):
                    self._deliver(event)
        finally:
            looking.cancel()

    def _deliver(self, event: SessionEvent) -> None:
        """Never waits for whoever reads it."""
        events = self._sessions.get(event.session_id)
        if events is None:
            return
        if event.last:
            del self._sessions[event.session_id]
        events.put_nowait(event)

    async def _look_again(self) -> None:
        """How much others ask of it. Sessions of ours that come or go meanwhile are not taken for theirs."""
        while True:
            await asyncio.sleep(DESCRIBE_SECONDS)
            ours, request = self.load, wire.verifier.DescribeVerifierRequest()
            with contextlib.suppress(aio.AioRpcError):  # if it is gone, its stream breaks
                reply = await self._stub.Describe(request, timeout=DESCRIBE_TIMEOUT_SECONDS)
                self.description = known = wire.from_verifier_description(reply)
                self.others = max(0, known.running_sessions + known.waiting_sessions - max(ours, self.load))
                self.on_change()

    def _lost(self) -> None:
        """Everybody who waits for this verifier hears that it is gone."""
        self._commands, self.healthy, self.others = None, False, 0
        for session_id, events in list(self._sessions.items()):
            events.put_nowait(lost_event(session_id))


def lost_event(session_id: str) -> SessionEvent:
    """What a session hears when its verifier's stream breaks: epoch 0, no verdict on the session itself."""
    return SessionEvent(session_id, epoch=0, detail="the stream to the verifier broke")


class DrafterWorker:
    """One drafter: its description and the sessions that we have attached there."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.description: DrafterDescription | None = None
        self.healthy = False
        self.attached = 0
        """Our sessions there."""
        self._channel = rpc.channel(address)
        self._stub = wire.drafter_stub(self._channel)
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        self._task = asyncio.create_task(self._stay_informed())

    async def close(self) -> None:
        if self._task:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        await self._channel.close()

    async def attach(self, attach: Attach) -> None:
        """Has it draft until the session ends or the task is cancelled; its loss is only worth a line."""
        self.attached += 1
        call = self._stub.Attach(wire.to_attach(attach))
        try:
            async for wired in call:
                event = wire.from_attach_event(wired)
                if not isinstance(event, Attached):
                    logger.debug("drafter %s left session %s: %s", self.address, attach.session_id, event.reason)
        except aio.AioRpcError as error:
            logger.warning(
                "drafter %s, session %s: %s %s", self.address, attach.session_id, error.code(), error.details()
            )
            if error.code() == grpc.StatusCode.UNAVAILABLE:
                self.healthy = False
        finally:
            call.cancel()  # gRPC leaves a call open whose reader is cancelled between two reads
            self.attached -= 1

    async def _stay_informed(self) -> None:
        while True:
            try:
                reply = await self._stub.Describe(
                    wire.drafter.DescribeDrafterRequest(), timeout=DESCRIBE_TIMEOUT_SECONDS
                )
                self.description, self.healthy = wire.from_drafter_description(reply), True
            except aio.AioRpcError:
                self.healthy = False
            except Exception:
                logger.exception("drafter %s: unexpected failure", self.address)
                self.healthy = False
            await asyncio.sleep(DESCRIBE_SECONDS if self.healthy else RETRY_SECONDS)


async def _requests(commands: rpc.Outgoing[DecodeCommand]) -> AsyncIterator[wire.verifier.DecodeCommand]:
    async for batch in commands:
        for command in batch:
            yield wire.to_decode_command(command)


async def start_all(workers: Sequence[VerifierWorker | DrafterWorker]) -> None:
    for worker in workers:
        await worker.start()
