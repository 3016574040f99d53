"""What workers need of a node, and whether a cluster's nodes have it: Ray itself would wait for ever."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from paceline.cluster.topology import DrafterPool, VerifierPool
from paceline.speculation.fields import FieldError, every_error

LABEL = "ray.io/accelerator-type"
"""Ray gives it to nodes with GPUs by itself."""
_SLACK = 1e-6
"""Shares of a GPU add up in floating point."""


@dataclass(frozen=True)
class Needs:
    """Of one worker; with ``together`` its GPUs are one reservation on one node, which outlives restarts."""

    cpus: float = 1.0
    gpus: float = 0.0
    accelerator: str = ""
    together: bool = False

    @property
    def labels(self) -> dict[str, str]:
        return {LABEL: self.accelerator} if self.accelerator else {}

    def __str__(self) -> str:
        kind = f"{self.accelerator} with " if self.accelerator else ""
        return f"{kind}{_amounts(self.cpus, self.gpus)} each"


@dataclass(frozen=True)
class Offer:
    """What a node has left."""

    cpus: float
    gpus: float = 0.0
    accelerator: str = ""

    def __str__(self) -> str:
        return f"{self.accelerator or 'no accelerator'} with {_amounts(self.cpus, self.gpus)}"


def verifier_needs(pool: VerifierPool) -> Needs:
    """All GPUs of a tensor-parallel verifier are on one node."""
    size = pool.tensor_parallel_size
    return Needs(pool.cpus, float(size) if _on_gpu(pool) else 0.0, pool.accelerator, together=size > 1)


def drafter_needs(pool: DrafterPool) -> Needs:
    """Several drafters may share a GPU."""
    return Needs(pool.cpus, pool.gpus if _on_gpu(pool) else 0.0, pool.accelerator)


def check_room(wanted: Iterable[tuple[str, Needs]], offers: Sequence[Offer]) -> None:
    """Raises ``FieldError`` for pools some of whose workers find no node, beside the others; ``wanted`` by pool."""
    workers = list(wanted)
    rooms = [_Room(offer) for offer in offers]
    unplaced = Counter[tuple[str, Needs]]()
    for pool, needs in sorted(workers, key=_hardest_first):
        if not any(room.take(needs) for room in sorted(rooms, key=_Room.value)):
            unplaced[pool, needs] += 1
    with every_error() as checks:
        for (pool, needs), count in unplaced.items():
            asked = workers.count((pool, needs))
            expected = f"a node for each; {count} of {asked} find none, since nodes have left: {_listed(offers)}"
            checks.errors.append(FieldError(pool, f"{asked} worker{'s' * (asked > 1)}, {needs}", expected))


class _Room:
    """A node that is being filled; GPUs one by one, since a share is of one."""

    def __init__(self, offer: Offer) -> None:
        self._accelerator, self._cpus = offer.accelerator, offer.cpus
        self._gpus = [1.0] * int(offer.gpus + _SLACK)
        if rest := offer.gpus - len(self._gpus):
            self._gpus.append(rest)

    def value(self) -> tuple[bool, float, float]:
        """What is worth least is taken first."""
        return bool(self._accelerator), sum(self._gpus), self._cpus

    def take(self, needs: Needs) -> bool:
        """Whether there was room, which is then taken."""
        gpus = list(self._chosen(needs.gpus))
        known = not needs.accelerator or needs.accelerator == self._accelerator
        if not known or self._cpus + _SLACK < needs.cpus or sum(share for _, share in gpus) + _SLACK < needs.gpus:
            return False
        self._cpus -= needs.cpus
        for index, share in gpus:
            self._gpus[index] -= share
        return True

    def _chosen(self, wanted: float) -> Iterator[tuple[int, float]]:
        """GPUs, and how much of each: a share of the fullest that has it, or whole ones."""
        share = min(wanted, 1.0)
        fitting = [index for index, left in enumerate(self._gpus) if left + _SLACK >= share]
        fitting.sort(key=lambda index: self._gpus[index])
        for index in fitting[: max(1, round(wanted))] if wanted else []:
            yield index, share


def _hardest_first(worker: tuple[str, Needs]) -> tuple[bool, float, float]:
    needs = worker[1]
    return not needs.accelerator, -needs.gpus, -needs.cpus


def _on_gpu(pool: VerifierPool | DrafterPool) -> bool:
    return pool.device.startswith("cuda")


def _amounts(cpus: float, gpus: float) -> str:
    return f"{gpus:g} GPU and {cpus:g} CPU" if gpus else f"{cpus:g} CPU"


def _listed(offers: Sequence[Offer]) -> str:
    counts = Counter(str(offer) for offer in offers)
    return (
        "; ".join(f"{offer} ({count} such)" if count > 1 else offer for offer, count in counts.items())
        or "there are none"
    )
