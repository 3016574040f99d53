"""gRPC in, logic, gRPC out."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable

from drafter_service.links import Links
from drafter_service.service import Drafter
from paceline import wire
from paceline.messages import AttachEvent, Detached, DrafterDescription
from paceline.rpc import Outgoing, streaming, unary


class DrafterServicer(wire.DrafterBase):
    """``DrafterService`` over a ``Drafter``."""

    def __init__(self, drafter: Drafter, links: Links, describe: Callable[[], DrafterDescription]) -> None:
        self._drafter, self._links, self._describe = drafter, links, describe

    @streaming
    async def Attach(self, request: wire.drafter.AttachRequest) -> AsyncIterator[wire.drafter.AttachEvent]:
        attach = wire.from_attach(request)
        link = self._links.get(attach.verifier)
        events: Outgoing[AttachEvent] = Outgoing(asyncio.get_running_loop())
        self._drafter.attach(attach, link, events.send)
        try:
            async for batch in events:
                for event in batch:
                    yield wire.to_attach_event(event)
                    if isinstance(event, Detached):
                        return
        finally:
            self._drafter.detach(attach.session_id, attach.epoch)

    @streaming
    async def Propose(self, request: wire.drafter.ProposeRequest) -> AsyncIterator[wire.verifier.DraftUpdate]:
        events: asyncio.Queue[wire.verifier.DraftUpdate] = asyncio.Queue()
        loop = asyncio.get_running_loop()
        proposal = self._drafter.propose(
            wire.from_propose(request),
            lambda update: loop.call_soon_threadsafe(events.put_nowait, wire.to_draft_update(update)),
        )
        try:
            while True:
                update = await events.get()
                yield update
                if update.rounds:
                    return
        finally:
            self._drafter.detach(proposal, 1)

    @unary
    async def Describe(self, request: wire.drafter.DescribeDrafterRequest) -> wire.drafter.DescribeDrafterResponse:
        return wire.to_drafter_description(self._describe())
