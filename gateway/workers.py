"""The gateway's view of its workers: who is there, what they are, and the streams to them."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from typing import Any

import grpc
from grpc import aio

from gateway.mailbox import Mailbox
from gateway.text import TextCodec
from paceline import rpc, wire
from paceline.errors import Fenced, Unavailable
from paceline.logs import get_logger
from paceline.messages import (
    AbortSession,
    Attach,
    Attached,
    DecodeCommand,
    DrafterDescription,
    OpenSession,
    Pulse,
    SessionEvent,
    Status,
    VerifierDescription,
)
from paceline.security.identity import Identity, Role

logger = get_logger(__name__)

RETRY_SECONDS = 0.1
DESCRIBE_TIMEOUT_SECONDS = 2.0
DESCRIBE_SECONDS = 1.0
"""Between two looks at what a worker has to do for others."""
SILENCE_SECONDS = 1.5
"""A verifier of which nothing is heard for so long is given up; a sign of life comes each quarter of a second."""
LISTEN_SECONDS = 0.25
"""Silence is counted in turns of ours: a gateway that was held up itself takes nobody for dead."""


@dataclass(frozen=True)
class _Guest:
    """A session of ours at a verifier."""

    epoch: int
    events: Mailbox


Outdated = Callable[[str, int], bool]
"""Whether a newer incarnation than this one has started under the name; such a one is not listened to."""


class VerifierWorker:
    """One verifier: its description, its tokenizer, and the stream that carries all our sessions there."""

    def __init__(self, address: str, identity: Identity | None = None) -> None:
        self.address = address
        self.description: VerifierDescription | None = None
        self.codec: TextCodec | None = None
        self.others = 0
        """Sessions of other gateways there, when it was last asked."""
        self.unasked_tokens = 0
        """Emitted for sessions that had left, since we know it."""
        self.on_change: Callable[[], None] = lambda: None
        """Called when it may take more sessions than before, or none."""
        self.outdated: Outdated = lambda *_: False
        self._stream: aio.StreamStreamCall[Any, Any] | None = None
        self._channel = rpc.channel(address, identity, Role.VERIFIER)
        self._stub = wire.verifier_stub(self._channel)
        self._commands: rpc.Outgoing[DecodeCommand] | None = None
        self._pulse: Pulse | None = None
        """Its latest sign of life; None: there is no stream, or nothing has come yet."""
        self._heard = 0
        """Messages of it."""
        self._sessions: dict[str, _Guest] = {}
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
    def healthy(self) -> bool:
        """Whether it takes sessions on: it is there, its steps go on, and it is not about to stop."""
        return self._pulse is not None and self._pulse.well

    @property
    def draining(self) -> bool:
        """Whether it is about to stop; what it runs goes on until then, unless it is handed over."""
        return self._pulse is not None and self._pulse.draining

    @property
    def load(self) -> int:
        """Our sessions there."""
        return len(self._sessions)

    @property
    def sessions(self) -> int:
        """Everybody's sessions there."""
        return self.load + self.others

    def open(self, opening: OpenSession, events: Mailbox) -> None:
        """Opens a session; its events come in the mailbox, the last one with a finish reason, a rejection or, once,
        epoch 0: it is to be opened elsewhere, and nothing more comes from here."""
        if self._commands is None:
            raise Unavailable(f"verifier {self.address} is not connected")
        self.send(opening)
        self._sessions[opening.session_id] = _Guest(opening.epoch, events)

    def send(self, command: DecodeCommand) -> None:
        """What a verifier that is lost would have been told is dropped: its sessions hear that it is lost."""
        if self._commands is not None:
            self._commands.send(command)

    def forget(self, session_id: str, epoch: int) -> None:
        """Its events are no longer wanted; if it still runs it ends. With a later epoch it is somebody else's."""
        guest = self._sessions.get(session_id)
        if guest is not None and guest.epoch == epoch:
            del self._sessions[session_id]
            self.send(AbortSession(session_id, epoch))

    def hand_over(self, detail: str) -> None:
        """Ends all our sessions there; each hears that it is to go on elsewhere, and why."""
        for session_id, guest in list(self._sessions.items()):
            self.forget(session_id, guest.epoch)
            guest.events.put_nowait(lost_event(session_id, detail))

    def drop(self, reason: str) -> None:
        """Breaks the stream that there is, whoever is at its other end."""
        logger.warning("the stream to a verifier is dropped", verifier=self.address, reason=reason)
        if self._stream is not None:
            self._stream.cancel()

    async def _stay_connected(self) -> None:
        while True:
            try:
                await self._decode()
            except aio.AioRpcError as error:
                if self._pulse is not None:
                    logger.warning("the stream to a verifier broke", verifier=self.address, error=rpc.said(error))
            except Fenced as error:
                logger.debug("a verifier is fenced", verifier=self.address, error=error)
            except asyncio.CancelledError:
                if self._closing:  # else gRPC has cancelled its own call
                    raise
            except Exception:
                logger.exception("unexpected failure", verifier=self.address)
            finally:
                self._lost("the stream to the verifier broke")
            await asyncio.sleep(RETRY_SECONDS)

    async def _learn(self) -> None:
        described = await self._stub.Describe(wire.verifier.DescribeVerifierRequest(), timeout=DESCRIBE_TIMEOUT_SECONDS)
        description = wire.from_verifier_description(described)
        if self.outdated(description.verifier_id, description.incarnation):
            raise Fenced(f"{description.verifier_id} has been replaced")
        have = self.codec.hash if self.codec else ""
        if self.codec is None or have != description.model.tokenizer_hash:
            request = wire.verifier.GetTokenizerRequest()
            reply = await self._stub.GetTokenizer(request, timeout=DESCRIBE_TIMEOUT_SECONDS)
            self.codec = TextCodec(wire.from_tokenizer_files(reply))
        self.description = description

    async def _decode(self) -> None:
        """One stream, from its opening to its end."""
        commands: rpc.Outgoing[DecodeCommand] = rpc.Outgoing(asyncio.get_running_loop())
        self._stream = stream = self._stub.Decode(_requests(commands))
        watches = list[asyncio.Task[None]]()
        try:
            await stream.wait_for_connection()
            await self._learn()  # over the same connection, so that it is of whoever is at the stream's other end
            self._commands = commands
            watches += [asyncio.create_task(watch(stream)) for watch in (self._listen, self._look_again)]
            async for message in stream:
                if self._commands is not commands:  # given up
                    break
                self._hear(message)
        finally:
            commands.close()  # gRPC leaves its reader waiting for more when a call has ended by itself
            stream.cancel()
            for watch in watches:
                watch.cancel()

    def _hear(self, message: wire.verifier.DecodeEvents) -> None:
        """Never waits for whoever reads it."""
        self._heard += 1
        for event in wire.from_decode_events(message):
            self._deliver(event)
        pulse = wire.from_pulse(message)
        if pulse == self._pulse:
            return
        tell = logger.info if pulse.well else logger.warning
        tell("a verifier says how it is", verifier=self.address, draining=pulse.draining, stalled=pulse.stalled)
        self._pulse = pulse
        if pulse.stalled:
            self.hand_over("a step of the verifier hangs")
        self.on_change()

    def _deliver(self, event: SessionEvent) -> None:
        guest = self._sessions.get(event.session_id)
        if guest is None or guest.epoch != event.epoch:
            self.unasked_tokens += len(event.committed.token_ids) if event.committed else 0
            return
        if event.last:
            del self._sessions[event.session_id]
        if event.rejected is not None and event.rejected.status is Status.UNAVAILABLE:  # no verdict on the session
            event = lost_event(event.session_id, event.rejected.detail)
        guest.events.put_nowait(event)

    async def _listen(self, stream: aio.Call) -> None:
        """Gives the stream up once nothing is heard any more."""
        silent_seconds = 0.0
        while silent_seconds < SILENCE_SECONDS:
            heard = self._heard
            await asyncio.sleep(LISTEN_SECONDS)
            silent_seconds = silent_seconds + LISTEN_SECONDS if heard == self._heard else 0.0
        logger.warning("a verifier has fallen silent", verifier=self.address, seconds=silent_seconds)
        self._give_up(stream, "the verifier has fallen silent")

    async def _look_again(self, stream: aio.Call) -> None:
        """How much others ask of it. Sessions of ours that come or go meanwhile are not taken for theirs."""
        while True:
            await asyncio.sleep(DESCRIBE_SECONDS)
            ours, request, before = self.load, wire.verifier.DescribeVerifierRequest(), self.description
            with contextlib.suppress(aio.AioRpcError):  # if it is gone, its stream breaks or falls silent
                reply = await self._stub.Describe(request, timeout=DESCRIBE_TIMEOUT_SECONDS)
                self.description = known = wire.from_verifier_description(reply)
                if before is not None and known.incarnation != before.incarnation:
                    self._give_up(stream, "the verifier was restarted")
                self.others = max(0, known.running_sessions + known.waiting_sessions - max(ours, self.load))
                self.on_change()

    def _give_up(self, stream: aio.Call, detail: str) -> None:
        """Whatever may still come on this stream is no longer wanted; another one is opened."""
        self._lost(detail)
        stream.cancel()

    def _lost(self, detail: str) -> None:
        """Everybody who waits for this verifier hears that it is gone."""
        known = self._pulse is not None
        self._commands, self._pulse, self.others = None, None, 0
        self.hand_over(detail)
        if known:
            self.on_change()


def lost_event(session_id: str, detail: str = "the stream to the verifier broke") -> SessionEvent:
    """What a session hears when its verifier is lost to it: epoch 0, no verdict on the session itself."""
    return SessionEvent(session_id, epoch=0, detail=detail)


class DrafterWorker:
    """One drafter: its description and the sessions that we have attached there."""

    def __init__(self, address: str, identity: Identity | None = None) -> None:
        self.address = address
        self.description: DrafterDescription | None = None
        self.healthy = False
        self.attached = 0
        """Our sessions there."""
        self.outdated: Outdated = lambda *_: False
        self._channel = rpc.channel(address, identity, Role.DRAFTER)
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
        about = {"drafter": self.address, "session": attach.session_id, "epoch": attach.epoch}
        call = self._stub.Attach(wire.to_attach(attach))
        try:
            async for wired in call:
                event = wire.from_attach_event(wired)
                if not isinstance(event, Attached):
                    logger.debug("a drafter has left", reason=event.reason, **about)
        except aio.AioRpcError as error:
            logger.warning("a drafter is lost", error=rpc.said(error), **about)
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
                self.description = known = wire.from_drafter_description(reply)
                self.healthy = not self.outdated(known.drafter_id, known.incarnation)
            except aio.AioRpcError:
                self.healthy = False
            except Exception:
                logger.exception("unexpected failure", drafter=self.address)
                self.healthy = False
            await asyncio.sleep(DESCRIBE_SECONDS if self.healthy else RETRY_SECONDS)


async def _requests(commands: rpc.Outgoing[DecodeCommand]) -> AsyncIterator[wire.verifier.DecodeCommand]:
    async for batch in commands:
        for command in batch:
            yield wire.to_decode_command(command)


async def start_all(workers: Sequence[VerifierWorker | DrafterWorker]) -> None:
    for worker in workers:
        await worker.start()
