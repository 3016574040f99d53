"""The whole page: one file, without a script, that asks for nothing from anywhere."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path

from markupsafe import Markup

from paceline.experiments.report.markup import element, items, together
from paceline.experiments.report.panels import caption, made_how
from paceline.experiments.report.saying import cheapest_of_all, where_colocated_wins, where_it_stops, worth_its_price
from paceline.experiments.report.section import section
from paceline.experiments.report.study import Study, study, target_words
from paceline.experiments.results import Instrument
from paceline.experiments.rows import Results

STYLE = Path(__file__).parent / "style.css"
QUESTIONS: tuple[tuple[str, Callable[[Study], Markup]], ...] = (
    ("When is a drafter worth its price?", worth_its_price),
    ("Where does it stop being so?", where_it_stops),
    ("Where does the draft on the target's own card win?", where_colocated_wins),
)
MEANING = {
    Instrument.CLOSED_FORM: "a formula: independent acceptance, fixed step times, no queue",
    Instrument.SIMULATED: "the services' own policy code in virtual time, forwards and wires from tables",
    Instrument.FAST: "the same, with steps drawn from short runs of it",
    Instrument.EMULATED: "real services and gRPC on one machine, forwards replaced by timed waits",
    Instrument.MEASURED: "a live fleet",
}


def report(every: Sequence[Results]) -> str:
    """A page of HTML about all of these."""
    studies = [study(results) for results in every]
    style = Markup(STYLE.read_text(encoding="utf-8"))  # noqa: S704 - our own file
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    policy = f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    head = element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", http_equiv="Content-Security-Policy", content=policy),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("meta", name="color-scheme", content="light dark"),
        element("title", f"Cost of drafting: {', '.join(one.results.experiment.name for one in studies)}"),
        element("style", style),
    )
    body = element(
        "body",
        element("header", element("h1", "What drafting costs, and what it saves"), _intro(studies)),
        element("main", _answers(studies), *(section(one, number) for number, one in enumerate(studies))),
    )
    return f"<!DOCTYPE html>\n{element('html', head, body, lang='en')}\n"


def _intro(studies: Sequence[Study]) -> Markup:
    used = {row.instrument for one in studies for row in one.results.rows}
    links = [
        together([
            element("a", one.results.experiment.name, href=f"#experiment-{number}"),
            f": {target_words(one.results.experiment)}, {made_how(one)}",
        ])
        for number, one in enumerate(studies)
    ]  # fmt: skip
    meant = [
        together([element("b", instrument.value), f": {MEANING[instrument]}"])
        for instrument in Instrument
        if instrument in used
    ]
    text = (
        "A million tokens cost what an hour of all cards costs, idle ones too, over the tokens of an hour that came "
        "within the SLO. Systems are compared only within one experiment: the same target, workload and prices. "
        "Low, mid and high prices belong together: low means that everything is rented at low ones. Tokens per "
        "second compare systems on equal cards of the target, dollars per million tokens at equal dollars."
    )
    return together([element("p", text), items(links, "contents"), items(meant, "instruments")])


def _answers(studies: Sequence[Study]) -> Markup:
    parts: list[Markup | None] = [element("h2", "In plain words")]
    for question, answer in QUESTIONS:
        parts.append(element("h3", question))
        parts.append(element("div", *(_answer(one, answer) for one in studies), class_="two"))
    sources = dict.fromkeys(caption(one) for one in studies)
    return element("section", *parts, *(element("p", text, class_="source") for text in sources), class_="answers")


def _answer(one: Study, answer: Callable[[Study], Markup]) -> Markup:
    name = element("h4", one.results.experiment.name, " ", element("small", made_how(one)))
    more = cheapest_of_all(one) if answer is where_colocated_wins else None
    return element("div", name, answer(one), more)
