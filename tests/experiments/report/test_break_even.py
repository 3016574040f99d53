"""Break-even prices: put in the place of a card's price they make the costs of two rows equal."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from paceline.experiments.report.break_even import BreakEven, break_even_price, break_evens
from paceline.experiments.report.study import RIVALS, Study, study
from paceline.experiments.results import System
from paceline.experiments.specification import MID, PRICES
from tests.experiments.report.formulas import results_of
from tests.experiments.report.made import CARD, TARGET, made

SPECS = ("spot-4090-drafters", "rtt-sweep", "l4-drafters-h100-70b")


def costs_at(one: BreakEven, amount: float, level: str) -> tuple[float, float]:
    """Of a million tokens, its own with another price of the card, and the rival's."""
    own = one.configuration.rows[one.system]
    dollars = own.dollars_per_hour[level] + one.cards * (amount - one.price[level])
    changed = replace(own, dollars_per_hour={**own.dollars_per_hour, level: dollars})
    return changed.dollars_per_million(level), one.configuration.cost(one.rival, level)


@pytest.fixture(scope="module", params=SPECS)
def found(request: pytest.FixtureRequest) -> Study:
    return study(results_of(request.param))


@pytest.mark.parametrize("rival", RIVALS)
def test_they_are_where_the_costs_of_the_rows_cross(found: Study, rival: System) -> None:
    every = break_evens(found, rival)
    assert len(every) == len(found.configurations)
    for one in every:
        for level in PRICES:
            at = one.at[level]
            if math.isfinite(at):
                assert costs_at(one, at, level)[0] == pytest.approx(costs_at(one, at, level)[1])
                assert costs_at(one, at + 0.01, level)[0] > costs_at(one, at + 0.01, level)[1]
            assert one.worth(level) == (one.configuration.ratio(one.system, rival, level) < 0)


def test_of_several_cards_it_is_the_price_of_one() -> None:
    assert break_even_price(own=4.0, own_goodput=200.0, rival=4.0, rival_goodput=100.0, cards=2) == 2.0


def test_without_goodput_no_price_is_low_enough_and_none_too_high_against_who_has_none() -> None:
    assert break_even_price(4.0, 0.0, 4.0, 100.0, 1) == -math.inf
    assert break_even_price(4.0, 100.0, 4.0, 0.0, 1) == math.inf


def test_a_card_that_brings_less_than_the_rival_is_not_worth_it_as_a_gift() -> None:
    (one,) = break_evens(made(lambda system, _: 90.0 if system is System.TREES else 100.0, {}), System.ALONE)
    assert one.at[MID] == pytest.approx(0.9 * TARGET[MID] - TARGET[MID])
    assert one.price == CARD
    assert not one.worth(MID)
