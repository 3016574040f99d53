"""gRPC in, logic, gRPC out."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

from grpc import aio

from paceline import wire
from paceline.errors import FieldError
from paceline.messages import Rejection, SessionEvent, Status, TokenizerFiles, Verdicts, VerifierDescription
from paceline.rpc import Outgoing, abort, unary
from verifier_service.service import Verifier

PATIENCE, PATIENCE_PER_SECOND = 300, 50
"""Messages without news that a drafter may send at full speed, and so many more each second: what is on its way when a
session ends is no flood."""


class VerifierServicer(wire.VerifierBase):
    """``VerifierService`` over a ``Verifier``."""

    def __init__(
        self, verifier: Verifier, describe: Callable[[], VerifierDescription], tokenizer: TokenizerFiles
    ) -> None:
        self._verifier, self._describe, self._tokenizer = verifier, describe, tokenizer

    async def Decode(
        self, requests: AsyncIterator[wire.verifier.DecodeCommand], context: aio.ServicerContext[Any, Any]
    ) -> AsyncIterator[wire.verifier.DecodeEvents]:
        link: Outgoing[Sequence[SessionEvent]] = Outgoing(asyncio.get_running_loop(), asyncio.current_task())
        reader = asyncio.create_task(self._read_commands(requests, link))
        try:
            async for batches in link:
                yield wire.to_decode_events([event for events in batches for event in events])
            await _raise_if_failed(reader, context)
        finally:
            await _end(reader)
            self._verifier.gateway_lost(link)

    async def _read_commands(
        self, requests: AsyncIterator[wire.verifier.DecodeCommand], link: Outgoing[Sequence[SessionEvent]]
    ) -> None:
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
        link: Outgoing[Verdicts] = Outgoing(asyncio.get_running_loop(), asyncio.current_task())
        reader = asyncio.create_task(self._read_drafts(requests, link))
        try:
            async for batch in link:
                yield wire.to_verdicts(_together(batch))
            await _raise_if_failed(reader, context)
        finally:
            await _end(reader)
            self._verifier.drafter_lost(link)

    async def _read_drafts(self, requests: AsyncIterator[wire.verifier.DraftUpdate], link: Outgoing[Verdicts]) -> None:
        flooding = Backpressure()
        try:
            async for request in requests:
                update, rejected = wire.from_draft_update(request)
                for rejection in rejected:
                    self._verifier.reject_drafting(rejection, link)
                await flooding.heard(news=self._verifier.update(update, link))
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

    async def heard(self, *, news: bool) -> None:
        """After a message."""
        now = self._clock()
        self._allowed = min(self._allowed + PATIENCE_PER_SECOND * (now - self._at), PATIENCE)
        self._at = now
        if news:
            return
        self._allowed -= 1
        if self._allowed < 0:
            await asyncio.sleep(-self._allowed / PATIENCE_PER_SECOND)


def _together(batch: Sequence[Verdicts]) -> Verdicts:
    if len(batch) == 1:
        return batch[0]
    return Verdicts(
        joined=tuple(item for verdicts in batch for item in verdicts.joined),
        verdicts=tuple(item for verdicts in batch for item in verdicts.verdicts),
        rejected=tuple(item for verdicts in batch for item in verdicts.rejected),
    )


async def _raise_if_failed(reader: asyncio.Task[None], context: aio.ServicerContext[Any, Any]) -> None:
    """Ends the stream with a status if reading it came upon malformed framing, or a bug of ours."""
    try:
        await reader
    except FieldError as error:
        await abort(context, error)


async def _end(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
