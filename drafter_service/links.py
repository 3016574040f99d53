"""Streams to verifiers: one per verifier, dialled when the first session needs it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence

from grpc import aio

from drafter_service.service import Drafter
from paceline import rpc, wire
from paceline.emulation import EmulatedLink
from paceline.errors import PermissionDenied
from paceline.logs import get_logger
from paceline.messages import DraftUpdate
from paceline.security.identity import Identity, Role
from paceline.speculation.merge import MAX_ENTRIES, MAX_NODES_PER_MESSAGE

logger = get_logger(__name__)


class Links:
    """The verifiers that this drafter drafts for; others are not dialled whoever asks."""

    def __init__(
        self,
        drafter: Drafter,
        allowed: Sequence[str],
        emulated: EmulatedLink | None = None,
        identity: Identity | None = None,
    ) -> None:
        """``emulated``: a longer wire than there is, for experiments."""
        self._identity = identity
        self._drafter, self._allowed, self._emulated = drafter, frozenset(allowed), emulated
        self._announced = frozenset[str]()
        self._links: dict[str, rpc.Outgoing[DraftUpdate]] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def allowed(self) -> tuple[str, ...]:
        """Addresses that may be dialled."""
        return tuple(sorted(self._allowed | self._announced))

    def announced(self, addresses: Iterable[str]) -> None:
        """The verifiers that are announced now may be dialled, those that were and are no longer may not."""
        self._announced = frozenset(addresses)

    def get(self, address: str) -> rpc.Outgoing[DraftUpdate]:
        """The link to the verifier at ``address``."""
        if address not in self.allowed:
            raise PermissionDenied(f"verifier {address} is not of this drafter's topology: {', '.join(self.allowed)}")
        link = self._links.get(address)
        if link is None:
            link = self._links[address] = rpc.Outgoing(asyncio.get_running_loop())
            task = asyncio.create_task(self._speculate(address, link))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        return link

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _speculate(self, address: str, link: rpc.Outgoing[DraftUpdate]) -> None:
        try:
            async with rpc.channel(address, self._identity, Role.VERIFIER) as connection:
                stub = wire.verifier_stub(connection)
                requests = self.outgoing(link)
                if self._emulated is not None:
                    requests = self._emulated.other_direction().carry(requests, wire.size)
                replies: AsyncIterator[wire.verifier.Verdicts] = stub.Speculate(requests)
                if self._emulated is not None:
                    replies = self._emulated.other_direction().carry(replies, wire.size)
                async for verdicts in replies:
                    self._drafter.receive(wire.from_verdicts(verdicts), link)
        except aio.AioRpcError as error:
            logger.warning("the stream to a verifier broke", verifier=address, error=rpc.said(error))
        finally:
            del self._links[address]
            link.close()
            self._drafter.link_lost(link)

    async def outgoing(self, link: rpc.Outgoing[DraftUpdate]) -> AsyncIterator[wire.verifier.DraftUpdate]:
        """What is said to the verifier."""
        async for batch in link:
            for update in within_bounds(batch):
                yield wire.to_draft_update(update)


def within_bounds(batch: Sequence[DraftUpdate]) -> Iterator[DraftUpdate]:
    """What has gathered, in as few messages as a verifier takes: more entries or nodes in one would be malformed."""
    joins, nodes, rounds, leaves = (
        [item for update in batch for item in getattr(update, kind)] for kind in ("joins", "nodes", "rounds", "leaves")
    )
    while joins or nodes or rounds or leaves:
        taken, room = 0, MAX_NODES_PER_MESSAGE
        while taken < min(len(nodes), MAX_ENTRIES) and (room := room - len(nodes[taken].columns)) >= 0:
            taken += 1
        now = len(nodes) == taken  # a round is complete, and a session is left, when all of it has been said
        yield DraftUpdate(
            joins=tuple(joins[:MAX_ENTRIES]),
            nodes=tuple(nodes[:taken]),
            rounds=tuple(rounds[:MAX_ENTRIES]) if now else (),
            leaves=tuple(leaves[:MAX_ENTRIES]) if now else (),
        )
        del joins[:MAX_ENTRIES], nodes[:taken]
        if now:
            del rounds[:MAX_ENTRIES], leaves[:MAX_ENTRIES]
