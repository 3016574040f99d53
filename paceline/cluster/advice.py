"""How many workers a pool should have, by what was measured of it. Advice only: plain functions of what is known."""

from __future__ import annotations

import math
from dataclasses import dataclass

FULL, EMPTY = 0.75, 0.5
"""Occupancy above which a pool of verifiers grows, and the most that a smaller one may come to before it shrinks:
apart, so that one session more or less changes nothing."""
LIKE_BEST = 0.01
"""Of two numbers of drafters whose costs differ by less the smaller one is as good."""
MOST_STARVED = 0.95


@dataclass(frozen=True)
class VerifierLoad:
    """Of one pool, on average over a while."""

    replicas: int
    sessions: float
    """That run at all replicas together."""
    capacity: float
    """Sessions that all replicas may run together."""
    waiting: float = 0.0
    """Requests in the gateways' queues."""


@dataclass(frozen=True)
class DrafterLoad:
    """Of one pool, and of the verifiers that it drafts for."""

    replicas: int
    starved: float
    """The part of a session's time in which its root waited for drafts instead of being verified, 0 to 1."""
    price_per_hour: float
    verifiers_price_per_hour: float
    """Of all of them together."""


def verifiers_wanted(load: VerifierLoad) -> int:
    """So many that all who run or wait take three quarters of the places; one at least."""
    if load.capacity <= 0:
        return load.replicas
    each, demand = load.capacity / load.replicas, load.sessions + load.waiting
    wanted = max(1, math.ceil(demand / (each * FULL)))
    if wanted >= load.replicas:
        return wanted
    return max(wanted, math.ceil(demand / (each * EMPTY)), 1) if demand else 1


def drafters_wanted(load: DrafterLoad) -> int:
    """The number that makes a token cheapest, from half as many as there are to twice as many.

    What a session waits is shared out: with ``n`` drafters in place of ``r`` its time is ``1 - starved`` of verifying
    and ``starved * r / n`` of waiting. A token costs that time at the price of verifiers and drafters together. Without
    any prices only time counts.
    """
    if load.replicas == 0:
        return 0
    starved = min(max(load.starved, 0.0), MOST_STARVED)
    free = load.price_per_hour == load.verifiers_price_per_hour == 0

    def cost(replicas: int) -> float:
        price = 1.0 if free else load.verifiers_price_per_hour + replicas * load.price_per_hour
        return price * (1 - starved + starved * load.replicas / replicas)

    possible = range(max(1, load.replicas // 2), 2 * load.replicas + 1)
    best = min(map(cost, possible))
    return next(replicas for replicas in possible if cost(replicas) <= best * (1 + LIKE_BEST))
