"""gRPC in, logic, gRPC out."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable

from drafter_service.links import Links
from drafter_service.service import Drafter
from paceline import wire
from paceline.errors import ResourceExhausted
from paceline.messages import AttachEvent, Detached, DrafterDescription, DraftUpdate
from paceline.rpc import Outgoing, streaming, unary


class DrafterServicer(wire.DrafterBase):
    """``DrafterService`` over a ``Drafter``."""

    def __init__(self, drafter: Drafter, links: Links, describe: Callable[[], DrafterDescription]) -> None:
        self._drafter, self._links, self._describe = drafter, links, describe

    @streaming
    async def Attach(self, request: wire.drafter.AttachRequest) -> AsyncGenerator[wire.drafter.AttachEvent, None]:
        attach = wire.from_attach(request)
        link = self._links.get(attach.verifier)
        events: Outgoing[AttachEvent] = Outgoing(asyncio.get_running_loop())
        member = self._drafter.attach(attach, link, events.send)
        try:
            async for batch in events:
                for event in batch:
                    yield wire.to_attach_event(event)
                    if isinstance(event, Detached):
                        return
        finally:
            self._drafter.detach(member)

    @streaming
    async def Propose(self, request: wire.drafter.ProposeRequest) -> AsyncGenerator[wire.verifier.DraftUpdate, None]:
        events: Outgoing[DraftUpdate | AttachEvent] = Outgoing(asyncio.get_running_loop())
        member = self._drafter.propose(wire.from_propose(request), events.send, events.send)
        try:
            async for batch in events:
                for event in batch:
                    if isinstance(event, Detached):
                        raise ResourceExhausted(event.reason)
                    if isinstance(event, DraftUpdate):
                        yield wire.to_draft_update(event)
                        if event.rounds:
                            return
        finally:
            self._drafter.detach(member)

    @unary
    async def Describe(self, request: wire.drafter.DescribeDrafterRequest) -> wire.drafter.DescribeDrafterResponse:
        return wire.to_drafter_description(self._describe())
