"""What the rows say, in plain words. Nothing here knows an answer: every sentence counts rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from markupsafe import Markup

from paceline.experiments.report.axes import Axis
from paceline.experiments.report.break_even import BreakEven, break_evens
from paceline.experiments.report.counting import how_often, other_prices, where
from paceline.experiments.report.courses import courses, in_sum, in_words
from paceline.experiments.report.markup import dollars, element, items, together
from paceline.experiments.report.prices import by_card
from paceline.experiments.report.study import APART, RIVALS, Configuration, Series, Study, target_words
from paceline.experiments.results import System
from paceline.experiments.specification import MID, PRICES

MOST_SERIES = 3
CHOICES = {System.ALONE: "the target alone", System.COLOCATED: "the draft on the target's card"}


def worth_its_price(study: Study) -> Markup:
    """A line for each card that something drafts on, and for what drafts for nothing."""
    against = {rival: by_card(break_evens(study, rival)) for rival in RIVALS}
    cards = dict.fromkeys(card for found in against.values() for card in found)
    parts = [_card({rival: found[card] for rival, found in against.items() if card in found}) for card in cards]
    parts += _gifts(study)
    if not parts:
        return element("p", "No drafter in these rows has a price.")
    targets = dict.fromkeys(target_words(one.experiment) for one in study.configurations)
    beside = element("p", f"Next to {' or '.join(targets)}:")
    return together([beside, items(parts)])


def where_it_stops(study: Study) -> Markup:
    """Along every axis with an order: what becomes of each comparison."""
    subject = study.subject
    if subject is None:
        return element("p", "Nothing in these rows drafts apart from the target.")
    rivals = [rival for rival in RIVALS if rival in study.systems]
    parts = []
    for axis in study.axes:
        if axis.numbers and rivals:
            span = f"{axis.amount(axis.numbers[0])} to {axis.amount(axis.numbers[-1])}"
            parts.append(element("p", element("b", f"By {axis.label}"), f", {span}, {subject.value}:"))
            parts.append(_by_axis(study, axis, subject, rivals))
    return together(parts) if parts else element("p", "Nothing was varied that has an order.")


def where_colocated_wins(study: Study) -> Markup:
    """Against all others, and against each."""
    among = [one for one in study.configurations if one.has(System.COLOCATED)]
    if not among:
        return element("p", "These rows have no draft on the target's card: the honest rival is missing.")
    wins = {price: sum(one.cheapest(price) is System.COLOCATED for one in among) for price in PRICES}
    place = where(study, among, {id(one) for one in among if one.cheapest() is System.COLOCATED})
    text = f"Cheapest of all systems: {how_often(wins[MID], len(among))}{other_prices(wins)}{place}."
    pairs = [_cheaper(among, system) for system in (*APART, System.ALONE) if any(one.has(system) for one in among)]
    return items([element("b", text), *pairs])


def cheapest_of_all(study: Study) -> Markup:
    """How often each system is."""
    best = [one.cheapest() for one in study.configurations]
    counts = {system: best.count(system) for system in study.systems if system in best}
    told = [f"{system.value} in {count}" for system, count in sorted(counts.items(), key=lambda item: -item[1])]
    nothing = best.count(None)
    told += [f"in {nothing} no system has a token within the SLO"] if nothing else []
    return element("p", f"Cheapest at mid prices, of {len(best)} configurations: {', '.join(told)}.")


def _by_axis(study: Study, axis: Axis, subject: System, rivals: Sequence[System]) -> Markup:
    every = study.series(axis)
    if len(every) <= MOST_SERIES:
        return items([_course(study, one, subject, rivals) for one in every])
    return items(
        f"over {CHOICES[rival]}: {in_sum(axis, [courses(one, subject, rival) for one in every])}." for rival in rivals
    )


def _course(study: Study, one: Series, subject: System, rivals: Sequence[System]) -> Markup:
    told = [f"over {CHOICES[rival]} {in_words(one.axis, courses(one, subject, rival))}" for rival in rivals]
    name = element("em", f"{study.words(one.settings)}: ") if one.settings else None
    return together([name, f"{'; '.join(told)}."])


def _cheaper(among: Sequence[Configuration], system: System) -> str:
    both = [one for one in among if one.has(system)]
    count = sum(one.ratio(System.COLOCATED, system) < 0 for one in both)
    return f"Cheaper than {system.value}: {how_often(count, len(both))}."


def _card(against: Mapping[System, Sequence[BreakEven]]) -> Markup:
    first = next(iter(against.values()))[0]
    varied = len({one.price[MID] for found in against.values() for one in found}) > 1
    price = "prices that vary" if varied else " / ".join(dollars(first.price[level]) for level in PRICES)
    share = f", {first.cards:g} of it" if first.cards < 1 else ""
    head = together([element("b", first.card), f" at {price} an hour{share}, {first.system.value}"])
    return together([head, items([_against(rival, found) for rival, found in against.items()])])


def _against(rival: System, found: Sequence[BreakEven]) -> Markup:
    counts = {level: sum(one.worth(level) for one in found) for level in PRICES}
    worth = {id(one.configuration) for one in found if one.worth(MID)}
    place = where(found[0].study, [one.configuration for one in found], worth)
    answer = element("b", how_often(counts[MID], len(found)))
    rest = f"{other_prices(counts)}{place}; {price_range(found)}."
    return together([f"worth its price over {CHOICES[rival]}: ", answer, rest])


def price_range(found: Sequence[BreakEven]) -> str:
    """Break-even prices: at mid prices over configurations, and over all prices."""
    mid = [one.at[MID] for one in found]
    every = [one.at[price] for one in found for price in PRICES]
    gifts = sum(amount < 0 for amount in mid)
    if max(every) < 0:
        return "not even as a gift"
    text = "not even as a gift" if gifts == len(mid) else f"break-even {_amounts(mid)}"
    if (min(every), max(every)) != (min(mid), max(mid)):
        text += f" (over all prices {_amounts(every)})"
    return text + (f", in {gifts} not even as a gift" if 0 < gifts < len(mid) else "")


def _amounts(amounts: Sequence[float]) -> str:
    low, high = min(amounts), max(amounts)
    end = "any price" if high == float("inf") else f"{dollars(high)} an hour"
    begin = "any price" if low == float("inf") else dollars(low)
    return f"up to {end}" if low < 0 else end if low == high else f"{begin} to {end}"


def _gifts(study: Study) -> list[Markup]:
    """Of look-ups that cost nothing by the hour."""
    told = []
    for rival in RIVALS:
        both = [one for one in study.configurations if one.has(System.LOOKUPS, rival, System.ALONE) and _is_gift(one)]
        if both:
            cheaper = {id(one) for one in both if one.ratio(System.LOOKUPS, rival) < 0}
            answer = element("b", how_often(len(cheaper), len(both)))
            told.append(together([f"cheaper than {CHOICES[rival]}: ", answer, f"{where(study, both, cheaper)}."]))
    head = together([element("b", "Look-ups"), " on processors that are there anyway, at no price"])
    return [together([head, items(told)])] if told else []


def _is_gift(one: Configuration) -> bool:
    return one.rows[System.LOOKUPS].dollars_per_hour[MID] <= one.rows[System.ALONE].dollars_per_hour[MID] + 1e-9
