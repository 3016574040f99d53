"""Workers that come and go: the fleet follows what the registry says."""

from __future__ import annotations

from collections.abc import Sequence

from gateway.fleet import Fleet
from gateway.workers import DrafterWorker, VerifierWorker
from paceline.cluster.announcing import DRAFTER, VERIFIER, Announcement
from paceline.logs import get_logger
from paceline.messages import DrafterDescription, VerifierDescription
from paceline.security.identity import Identity

logger = get_logger(__name__)


class Membership:
    """Adds workers to a fleet that are announced, and takes those away again that are gone."""

    def __init__(self, fleet: Fleet, identity: Identity | None = None) -> None:
        """``identity``: ours, where there is TLS."""
        self._fleet, self._dials_as = fleet, identity
        self._joined: dict[tuple[str, str], VerifierWorker | DrafterWorker] = {}
        """By role and address; those of the configuration are not ours to take away."""
        self._newest: dict[tuple[str, str], int] = {}
        """Incarnations by role and name. What the registry does not name is whatever answers at its address."""
        for worker in fleet.workers:
            self._fence(worker)

    async def follow(self, announced: Sequence[Announcement]) -> None:
        """Takes all workers that are there."""
        for each in announced:
            name = each.role, each.worker_id
            self._newest[name] = max(each.incarnation, self._newest.get(name, 0))
        for each in announced:
            if not any(_is(worker, each) for worker in self._fleet.workers):
                await self._join(each)
        self._drop_the_outdated()
        await self._part_with_the_gone({(each.role, each.address) for each in announced})

    async def close(self) -> None:
        """Leaves those of the configuration as they are."""
        for worker in self._joined.values():
            await worker.close()

    async def _join(self, announcement: Announcement) -> None:
        logger.info("a worker has come", **{announcement.role: announcement.worker_id}, address=announcement.address)
        make = VerifierWorker if announcement.role == VERIFIER else DrafterWorker
        worker = self._joined[announcement.role, announcement.address] = make(announcement.address, self._dials_as)
        self._fence(worker)
        self._fleet.add(worker)
        await worker.start()

    def _fence(self, worker: VerifierWorker | DrafterWorker) -> None:
        role = _role(worker)
        worker.outdated = lambda name, incarnation: incarnation < self._newest.get((role, name), 0)

    def _drop_the_outdated(self) -> None:
        """Sessions of a verifier that was replaced shall not wait for its stream to break."""
        for worker in self._fleet.verifiers:
            name, incarnation = _identity(worker)
            if worker.healthy and worker.outdated(name, incarnation):
                worker.drop(f"{name} has been replaced")

    async def _part_with_the_gone(self, there: set[tuple[str, str]]) -> None:
        """Not with whoever still serves: its sessions go on until their stream breaks."""
        for place in self._joined.keys() - there:
            if not self._joined[place].healthy:
                worker = self._joined.pop(place)
                role, address = place
                logger.info("a worker is gone", role=role, address=address)
                self._fleet.remove(worker)
                await worker.close()


def _role(worker: VerifierWorker | DrafterWorker) -> str:
    return VERIFIER if isinstance(worker, VerifierWorker) else DRAFTER


def _identity(worker: VerifierWorker | DrafterWorker) -> tuple[str, int]:
    """Name and incarnation, as far as it has said."""
    match worker.description:
        case VerifierDescription() as known:
            return known.verifier_id, known.incarnation
        case DrafterDescription() as known:
            return known.drafter_id, known.incarnation
    return "", 0


def _is(worker: VerifierWorker | DrafterWorker, announcement: Announcement) -> bool:
    """Whether they are one, by its address or by the name that it has said at another spelling of its address."""
    if _role(worker) != announcement.role:
        return False
    return worker.address == announcement.address or _identity(worker) == (
        announcement.worker_id,
        announcement.incarnation,
    )
