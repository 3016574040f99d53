"""The price of a drafter's card at which it is worth as much as it costs: found by turning the costs around."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from paceline.experiments.report.study import Configuration, Study, looks_up, paid_drafters
from paceline.experiments.results import System
from paceline.experiments.specification import PRICES, DrafterSpec


@dataclass(frozen=True)
class BreakEven:
    """Of one card in one configuration, against one rival.

    ``price`` is what it costs an hour and ``at`` what it might, both by the prices' level, which is the target's, too:
    below 0 it is not worth it even as a gift, infinite where the rival has no goodput, and minus infinite where it has
    none itself.
    """

    card: str
    cards: float
    system: System
    rival: System
    price: Mapping[str, float]
    at: Mapping[str, float]
    configuration: Configuration
    study: Study

    def worth(self, level: str) -> bool:
        """Costs less per token than the rival."""
        return self.price[level] < self.at[level]


def break_even_price(own: float, own_goodput: float, rival: float, rival_goodput: float, cards: float) -> float:
    """Dollars per hour of a card at which a million tokens cost the same.

    ``own`` are the dollars per hour of all but these ``cards``:
    ``(own + cards x) / own_goodput = rival / rival_goodput``.
    """
    if own_goodput == 0:
        return -math.inf
    if rival_goodput == 0:
        return math.inf
    return (rival * own_goodput / rival_goodput - own) / cards


def break_evens(study: Study, rival: System) -> list[BreakEven]:
    """Of every card that a system drafts on: our trees' on cards with models, and look-ups."""
    found = []
    for one in study.configurations:
        for system in dict.fromkeys((study.subject, System.LOOKUPS)):
            if system is not None and one.has(system, rival, System.ALONE):
                found += _of(one, system, rival, study)
    return found


def _of(one: Configuration, system: System, rival: System, study: Study) -> list[BreakEven]:
    pools = [pool for pool in paid_drafters(system, one.experiment).values() if pool.card and _cards(pool) > 0]
    # beside a model, look-ups are asked about by themselves
    asked = [pool for pool in pools if system is System.LOOKUPS or not looks_up(pool)]
    priced = [(pool, _price(pool, study)) for pool in asked]
    return [_break_even(one, system, rival, _cards(pool), pool.card, price, study) for pool, price in priced if price]


def _break_even(
    one: Configuration,
    system: System,
    rival: System,
    cards: float,
    card: str,
    price: Mapping[str, float],
    study: Study,
) -> BreakEven:
    own, against = one.rows[system], one.rows[rival]
    at = {
        level: break_even_price(
            own.dollars_per_hour[level] - cards * price[level],
            own.goodput,
            against.dollars_per_hour[level],
            against.goodput,
            cards,
        )
        for level in PRICES
    }
    return BreakEven(card, cards, system, rival, price, at, one, study)


def _cards(pool: DrafterSpec) -> float:
    return pool.replicas * pool.cards_each


def _price(pool: DrafterSpec, study: Study) -> Mapping[str, float]:
    if pool.price_per_hour:
        return dict.fromkeys(PRICES, pool.price_per_hour)
    return study.results.prices.get(pool.card, {})
