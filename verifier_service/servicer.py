"""gRPC in, logic, gRPC out."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import replace
from typing import Any

from grpc import aio

from paceline import wire
from paceline.errors import FieldError
from paceline.messages import (
    DraftUpdate,
    Pulse,
    Rejection,
    SessionEvent,
    Status,
    TokenizerFiles,
    Verdicts,
    VerifierDescription,
)
from paceline.rpc import Outgoing, abort, unary
from paceline.security.access import peer
from paceline.security.identity import Party
from paceline.security.refusals import REFUSALS
from verifier_service.service import Verifier

PULSE_SECONDS = 0.2
"""Between two signs of life; a gateway may count on one every quarter of a second."""
PATIENCE, PATIENCE_PER_SECOND, PATIENCE_BYTES = 300, 50, 16 << 10
"""Messages without news that a drafter may send at full speed, and so many more each second: what is on its way when a
session ends is no flood. One of more than so many bytes counts as several."""

GatewayStream = Outgoing[Sequence[SessionEvent]]
DrafterStream = Outgoing[Verdicts]


class VerifierServicer(wire.VerifierBase):
    """``VerifierService`` over a ``Verifier``."""

    def __init__(
        self,
        verifier: Verifier,
        describe: Callable[[], VerifierDescription],
        tokenizer: TokenizerFiles,
        stalled: Callable[[], bool] = lambda: False,
    ) -> None:
        """``stalled``: whether the step in progress takes too long."""
        self._verifier, self._describe, self._tokenizer, self._stalled = verifier, describe, tokenizer, stalled
        self._gateways, self._drafters = set[GatewayStream](), set[DrafterStream]()

    def drain(self) -> None:
        """Refuses new sessions, and lets every gateway know at once."""
        self._verifier.drain()
        for link in self._gateways:
            link.send(())

    def close(self) -> None:
        """Ends all streams after what they have still to say."""
        for gateway in self._gateways:
            gateway.close()
        for drafter in self._drafters:
            drafter.close()

    async def Decode(
        self, requests: AsyncIterator[wire.verifier.DecodeCommand], context: aio.ServicerContext[Any, Any]
    ) -> AsyncIterator[wire.verifier.DecodeEvents]:
        link: GatewayStream = Outgoing(asyncio.get_running_loop(), asyncio.current_task())
        reader, heart = asyncio.create_task(self._read_commands(requests, link)), asyncio.create_task(_beat(link))
        self._gateways.add(link)
        try:
            async for batches in link:
                pulse = Pulse(self._verifier.draining, self._stalled())
                yield wire.to_decode_events([event for events in batches for event in events], pulse)
            await _raise_if_failed(reader, context)
        finally:
            self._gateways.discard(link)
            await _end(reader, heart)
            self._verifier.gateway_lost(link)

    async def _read_commands(self, requests: AsyncIterator[wire.verifier.DecodeCommand], link: GatewayStream) -> None:
        try:
            async for request in requests:
                try:
                    self._verifier.command(wire.from_decode_command(request), link)
                except FieldError as error:
                    session_id = request.open.session_id
                    rejection = Rejection(session_id, Status.INVALID_ARGUMENT, str(error))
                    link.send([SessionEvent(session_id, request.open.epoch, rejected=rejection)])
        finally:
            link.close()

    async def Speculate(
        self, requests: AsyncIterator[wire.verifier.DraftUpdate], context: aio.ServicerContext[Any, Any]
    ) -> AsyncIterator[wire.verifier.Verdicts]:
        link: DrafterStream = Outgoing(asyncio.get_running_loop(), asyncio.current_task())
        reader = asyncio.create_task(self._read_drafts(requests, link, peer()))
        self._drafters.add(link)
        try:
            async for batch in link:
                yield wire.to_verdicts(_together(batch))
            await _raise_if_failed(reader, context)
        finally:
            self._drafters.discard(link)
            await _end(reader)
            self._verifier.drafter_lost(link)

    async def _read_drafts(
        self, requests: AsyncIterator[wire.verifier.DraftUpdate], link: DrafterStream, party: Party | None
    ) -> None:
        flooding = Backpressure()
        try:
            async for request in requests:
                update, unreadable = wire.from_draft_update(request)
                update, disowned = _own_joins(update, party)
                if disowned:
                    link.send(Verdicts(rejected=tuple(disowned)))
                news = self._verifier.update(update, link, unreadable)
                await flooding.heard(wire.size(request), news=news)
        except FieldError as error:
            self._verifier.drafter_broken(link, str(error))
            raise
        finally:
            link.close()

    @unary
    async def Describe(self, request: wire.verifier.DescribeVerifierRequest) -> wire.verifier.DescribeVerifierResponse:
        return wire.to_verifier_description(self._describe())

    @unary
    async def GetTokenizer(self, request: wire.verifier.GetTokenizerRequest) -> wire.verifier.GetTokenizerResponse:
        files = self._tokenizer
        if request.have_hash == files.tokenizer_hash:
            files = TokenizerFiles(files.tokenizer_hash, b"", files.chat_template, files.special_tokens)
        return wire.to_tokenizer_files(files)


class Backpressure:
    """Keeps a drafter waiting that goes on and on sending what is no news: its stream is read slowly, and what it sends
    stays with it. Drafters that work are never kept waiting, be they late: that would only make them later."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock, self._allowed, self._at = clock, float(PATIENCE), clock()

    async def heard(self, size_bytes: int, *, news: bool) -> None:
        """After a message."""
        now = self._clock()
        self._allowed = min(self._allowed + PATIENCE_PER_SECOND * (now - self._at), PATIENCE)
        self._at = now
        if news:
            return
        self._allowed -= 1 + size_bytes // PATIENCE_BYTES
        if self._allowed < 0:
            await asyncio.sleep(-self._allowed / PATIENCE_PER_SECOND)


def _own_joins(update: DraftUpdate, party: Party | None) -> tuple[DraftUpdate, list[Rejection]]:
    """Without the joins under a name that is not the one in the drafter's certificate."""
    others = [join for join in update.joins if party and join.drafter_id != party.name]
    if not others or not party:
        return update, []
    for join in others:
        REFUSALS.note("drafter", f"drafter {party.name}", f"wanted to join as {join.drafter_id[:64]!r}")
    detail = f"drafter_id: expected {party.name}, as the certificate says"
    rejected = [Rejection(join.session_id, Status.PERMISSION_DENIED, detail, join.epoch) for join in others]
    return replace(update, joins=tuple(join for join in update.joins if join not in others)), rejected


def _together(batch: Sequence[Verdicts]) -> Verdicts:
    if len(batch) == 1:
        return batch[0]
    return Verdicts(
        joined=tuple(item for verdicts in batch for item in verdicts.joined),
        verdicts=tuple(item for verdicts in batch for item in verdicts.verdicts),
        rejected=tuple(item for verdicts in batch for item in verdicts.rejected),
    )


async def _raise_if_failed(reader: asyncio.Task[None], context: aio.ServicerContext[Any, Any]) -> None:
    """Ends the stream with a status if reading it came upon malformed framing, or a bug of ours; where we end it
    ourselves it is still being read."""
    try:
        if reader.done():
            await reader
    except FieldError as error:
        await abort(context, error)


async def _beat(link: GatewayStream) -> None:
    """Signs of life, from the event loop: they tell of a step that hangs, and cease when the whole process does."""
    while True:
        link.send(())
        await asyncio.sleep(PULSE_SECONDS)


async def _end(*tasks: asyncio.Task[None]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
