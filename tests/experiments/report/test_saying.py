"""The words: with rows whose answer is the other way round they say the other thing."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import replace

import pytest
from markupsafe import Markup

from paceline.experiments.report.saying import cheapest_of_all, where_colocated_wins, where_it_stops, worth_its_price
from paceline.experiments.report.study import Study
from paceline.experiments.results import System
from tests.experiments.report.made import BY_TRIP, Goodput, made, row

Settings = Mapping[str, float | int | str]
MANY = {"workload.acceptance": ("low", "mid", "high"), **BY_TRIP, "workload.sessions": (1, 4)}


def plain(text: Markup) -> str:
    apart = Markup(re.sub(r"</?(p|ul|li)\b[^>]*>", " ", text))
    return re.sub(r"\s+", " ", apart.striptags().replace("\N{NO-BREAK SPACE}", " ")).strip()


def constant(**goodputs: float) -> Goodput:
    return lambda system, _: goodputs.get(system.name.lower(), 50.0)


def falling(system: System, settings: Settings) -> float:
    """Our trees need 125 to be as cheap as a rival with 100, and have it at a trip of 2^1.5."""
    if system is not System.TREES:
        return 100.0
    return 125.0 * math.pow(2.0, 0.375 - 0.25 * math.log2(float(settings["network.round_trip_ms"])))


def rising(system: System, settings: Settings) -> float:
    return 100.0 if system is not System.TREES else 125.0**2 / falling(system, settings)


def test_a_card_is_worth_its_price_or_is_not() -> None:
    yes = plain(worth_its_price(made(constant(trees=300.0, alone=100.0, colocated=100.0))))
    no = plain(worth_its_price(made(constant(trees=90.0, alone=100.0, colocated=100.0))))
    assert "L4 at $0.50 / $1.00 / $2.00 an hour" in yes
    for rival in ("the target alone", "the draft on the target's card"):
        assert f"worth its price over {rival}: always, in all 4 configurations" in yes
        assert f"worth its price over {rival}: never, in none of 4 configurations" in no
    assert "break-even $8.00 an hour (over all prices $4.00 to $16.0 an hour)" in yes
    assert "not even as a gift" in no
    assert "not even as a gift" not in yes


def test_one_rival_may_win_and_the_other_lose() -> None:
    text = plain(worth_its_price(made(constant(trees=200.0, alone=100.0, colocated=180.0))))
    assert "over the target alone: always" in text
    assert "over the draft on the target's card: never" in text


def test_where_a_card_is_worth_its_price_is_told_by_what_decides_it() -> None:
    text = plain(worth_its_price(made(falling, {**BY_TRIP, "workload.sessions": (1, 4)})))
    assert "(by round trip, ms: 1, 2: all 4; 4, 8: none)" in text
    assert "(by round trip, ms: 1, 2: none; 4, 8: all 4)" in plain(
        worth_its_price(made(rising, {**BY_TRIP, "workload.sessions": (1, 4)}))
    )


def test_where_it_stops_is_where_the_costs_cross() -> None:
    down, up = plain(where_it_stops(made(falling))), plain(where_it_stops(made(rising)))
    assert "over the target alone cheaper up to about 2.83 ms, dearer beyond" in down
    assert "over the target alone dearer up to about 2.83 ms, cheaper beyond" in up


@pytest.mark.parametrize(("goodput", "said"), [(500.0, "cheaper everywhere"), (50.0, "dearer everywhere")])
def test_without_a_flip_none_is_told(goodput: float, said: str) -> None:
    text = plain(where_it_stops(made(constant(trees=goodput, alone=100.0, colocated=100.0))))
    assert f"over the target alone {said}; over the draft on the target's card {said}." in text
    assert "up to" not in text


def test_of_many_courses_it_counts_those_that_flip() -> None:
    text = plain(where_it_stops(made(falling, MANY)))
    assert "By round trip, 1 ms to 8 ms, Paceline's trees: over the target alone: of 6 combinations" in text
    assert "of 6 combinations of all else, turning dearer in 6, at about 2.83 ms." in text


def test_what_has_no_goodput_is_said_to_have_none() -> None:
    nothing = plain(where_it_stops(made(constant(trees=0.0, alone=0.0, colocated=0.0, pearl=0.0, outcomes=0.0))))
    assert "neither has a token within the SLO" in nothing
    assert "cheaper" not in nothing


def test_the_colocated_draft_wins_or_does_not() -> None:
    wins = plain(where_colocated_wins(made(constant(colocated=500.0))))
    loses = plain(where_colocated_wins(made(constant(colocated=10.0))))
    assert "Cheapest of all systems: always, in all 4 configurations." in wins
    assert "Cheapest of all systems: never, in none of 4 configurations." in loses
    for rival in ("Paceline's trees", "PEARL chain", "outcome cache (SSD)", "target alone"):
        assert f"Cheaper than {rival}: always" in wins
        assert f"Cheaper than {rival}: never" in loses


def test_without_a_colocated_draft_its_absence_is_said() -> None:
    found = made(constant())
    rows = tuple(one for one in found.results.rows if one.system is not System.COLOCATED)
    alone = Study(replace(found.results, rows=rows))
    assert "the honest rival is missing" in plain(where_colocated_wins(alone))
    assert "draft on the target's card" not in plain(where_it_stops(alone))


def test_look_ups_at_no_price_pay_or_do_not() -> None:
    for goodput, said in ((300.0, "always"), (90.0, "never")):
        found = made(constant(alone=100.0, colocated=100.0))
        extra = [row("made", System.LOOKUPS, one.settings, goodput, free=True) for one in found.configurations]
        both = Study(replace(found.results, rows=(*found.results.rows, *extra)))
        text = plain(worth_its_price(both))
        assert (
            f"Look-ups on processors that are there anyway, at no price cheaper than the target alone: {said}" in text
        )
        assert f"cheaper than the draft on the target's card: {said}" in text


def test_the_cheapest_of_all_are_counted() -> None:
    text = plain(cheapest_of_all(made(falling)))
    assert text == "Cheapest at mid prices, of 4 configurations: target alone in 2, Paceline's trees in 2."


def test_a_range_over_prices_is_told_where_the_answer_depends_on_them() -> None:
    """A card that costs nothing at low prices must bring no more than the rival does: 100, at 2^1.5 x 1.25^4."""
    found = made(falling)
    rows = tuple(
        type(row)(**{**vars(row), "dollars_per_hour": {**row.dollars_per_hour, "low": 2.0}})
        for row in found.results.rows
    )
    other = Study(replace(found.results, rows=rows))
    assert "up to about 2.83 ms (2.83 ms to 6.91 ms over prices), dearer beyond" in plain(where_it_stops(other))
