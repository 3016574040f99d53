"""What a fleet that is there costs by the hour: as its topology says, or as its drafters and a specification do."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from paceline.cluster.topology import MODEL_KINDS, DrafterPool, Topology
from paceline.errors import Unavailable
from paceline.experiments.specification import PRICES, TargetSpec
from paceline.experiments.tables import Prices
from paceline.messages import Worker
from paceline.speculation.fields import every_error


@dataclass(frozen=True)
class Drafting:
    """A drafter of a fleet."""

    name: str
    kind: str
    price_per_hour: float

    @property
    def looks_up(self) -> bool:
        return self.kind not in MODEL_KINDS


@dataclass(frozen=True)
class Fleet:
    """What is there. ``verifiers_price``: of all of them, by low, mid and high price."""

    verifiers: int
    verifiers_price: Mapping[str, float]
    drafters: tuple[Drafting, ...]
    priced_by: str

    @property
    def lookups(self) -> tuple[Drafting, ...]:
        return tuple(drafter for drafter in self.drafters if drafter.looks_up)

    def dollars_per_hour(self, drafters: Sequence[Drafting]) -> dict[str, float]:
        """Of all verifiers and these drafters, idle or not."""
        paid = sum(drafter.price_per_hour for drafter in drafters)
        return {price: self.verifiers_price[price] + paid for price in PRICES}


def fleet_of(workers: Sequence[Worker], target: TargetSpec, prices: Prices, topology: Topology | None) -> Fleet:
    """``workers``: as the gateway lists them. Raises ``Unavailable`` without a verifier, and ``FieldError`` for a
    topology of another fleet."""
    healthy = [worker for worker in workers if worker.healthy]
    verifiers = sum(worker.role == "verifier" for worker in healthy)
    if not verifiers:
        raise Unavailable("the gateway knows of no healthy verifier")
    there = [worker for worker in healthy if worker.role == "drafter"]
    drafters = tuple(Drafting(worker.worker_id, worker.kind, worker.price_per_hour) for worker in there)
    card, own = target.tensor_parallel, target.price_per_hour
    asked = {price: verifiers * card * (own or prices[target.card][price]) for price in PRICES}
    if topology is None:
        return Fleet(verifiers, asked, drafters, "drafters as they say, target as specified")
    return _priced(topology, verifiers, drafters)


def _priced(topology: Topology, verifiers: int, drafters: tuple[Drafting, ...]) -> Fleet:
    """By kind, not by name: who runs a fleet may name workers otherwise."""
    pools = [topology.drafters[name] for name in {name for model in topology.models for name in model.drafters}]
    expected = sum(topology.verifiers[model.verifiers].replicas for model in topology.models)
    counts, wanted = Counter(drafter.kind for drafter in drafters), _by_kind(pools, lambda pool: pool.replicas)
    with every_error() as checks:
        checks.require(
            verifiers == expected, "topology", f"{expected} verifiers", f"{verifiers}, as the fleet has them"
        )
        for kind in sorted({*counts, *wanted}):
            said = f"{wanted[kind]:g} drafters of kind {kind}"
            checks.require(counts[kind] == wanted[kind], "topology", said, f"{counts[kind]}, as the fleet has them")
    paid = _by_kind(pools, lambda pool: pool.replicas * pool.price_per_hour)
    priced = tuple(Drafting(one.name, one.kind, paid[one.kind] / wanted[one.kind]) for one in drafters)
    pooled = [topology.verifiers[model.verifiers] for model in topology.models]
    whole = sum(pool.replicas * pool.price_per_hour for pool in pooled)
    return Fleet(verifiers, dict.fromkeys(PRICES, whole), priced, "topology")


def _by_kind(pools: Iterable[DrafterPool], amount: Callable[[DrafterPool], float]) -> Counter[str]:
    """Sums over the pools of each kind."""
    sums = Counter[str]()
    for pool in pools:
        sums[pool.kind] += amount(pool)  # type: ignore[assignment]
    return sums
