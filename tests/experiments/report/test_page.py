"""The page: one file that loads nothing, says of every chart what it is of, and takes names for what they are."""

from __future__ import annotations

import math
import re
import shutil
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from playwright.sync_api import Browser, sync_playwright

from paceline.errors import FieldError
from paceline.experiments.report.page import report
from paceline.experiments.results import Instrument, System
from paceline.experiments.rows import Results
from paceline.experiments.specification import DrafterSpec, TargetSpec
from tests.experiments.report.formulas import results_of
from tests.experiments.report.made import BY_TRIP, results

CHROMIUM = shutil.which("chromium")
FLAGS = (
    "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--no-first-run",
)  # fmt: skip
HOSTILE = """</style><script>alert(1)</script><img src=x onerror="alert(2)">'"&{{7*7}}"""
WIDTHS = (1280, 420, 360)
BOXES = """() => {
  const box = (one) => {
    const around = one.getBoundingClientRect();
    return [around.left, around.top, around.right, around.bottom, one.textContent];
  };
  const charts = [...document.querySelectorAll("figure svg")].filter((svg) => svg.checkVisibility());
  return charts.map((svg) => [box(svg), [...svg.querySelectorAll("text")].map(box)]);
}"""


def page_of(*every: Results) -> ET.Element:
    """Well-formed: what is not escaped is not."""
    text = report(every).removeprefix("<!DOCTYPE html>\n")
    return ET.fromstring(re.sub(r"<meta([^>]*)>", r"<meta\1/>", text))


@pytest.fixture(scope="module")
def whole() -> str:
    return report([results_of("rtt-sweep"), results_of("spot-4090-drafters"), results_of("one-drafter-many-verifiers")])


def test_hostile_names_are_words() -> None:
    made = results(lambda system, _: 300.0 if system is System.TREES else 100.0, BY_TRIP, HOSTILE)
    experiment = replace(
        made.experiment,
        about=HOSTILE,
        target=TargetSpec(HOSTILE, "H200", 1),
        drafters={HOSTILE.replace(".", ""): DrafterSpec(model=HOSTILE, card="L4")},
    )
    rows = tuple(replace(row, notes={HOSTILE: HOSTILE}) for row in made.rows)
    page = page_of(Results(experiment, rows, made.prices, HOSTILE, {HOSTILE: HOSTILE}))
    assert f"{HOSTILE} " in {heading.text for heading in page.iter("h2")}
    assert not [found.tag for name in ("script", "img") for found in page.iter(name)]
    assert not [name for found in page.iter() for name in found.attrib if name.startswith("on") or name == "style"]


def test_its_policy_allows_nothing_but_its_own_style(whole: str) -> None:
    (policy,) = re.findall(r'http-equiv="Content-Security-Policy" content="([^"]*)"', whole)
    assert "default-src &#39;none&#39;" in policy
    assert re.search(r"style-src &#39;sha256-[\w+/=]+&#39;", policy)
    assert "unsafe" not in policy
    assert not re.search(r"https?://|url\(|@import|<script|<link", whole)


def test_every_chart_and_table_says_what_it_is_of(whole: str) -> None:
    page = ET.fromstring(re.sub(r"<meta([^>]*)>", r"<meta\1/>", whole.removeprefix("<!DOCTYPE html>\n")))
    sections = [found for found in page.iter("section") if found.get("id")]
    for section, name in zip(sections, ("rtt-sweep", "spot-4090-drafters", "one-drafter-many-verifiers"), strict=True):
        said = f"Closed form; {name}, seed 1, prices of 2026-11-22."
        waiting = False
        for found in section.iter():
            waiting |= found.tag in {"svg", "table"} and found.get("class") != "chip"
            if found.get("class") == "source" and said in "".join(found.itertext()):
                waiting = False
            assert not (waiting and found.tag == "h3"), "".join(found.itertext())
        assert not waiting


@pytest.mark.parametrize("instrument", Instrument)
def test_rows_are_said_to_be_what_they_are(instrument: Instrument) -> None:
    made = results(lambda *_: 100.0, BY_TRIP)
    rows = tuple(replace(row, instrument=instrument) for row in made.rows)
    text = report([replace(made, rows=rows)])
    assert f"{instrument.value[0].upper()}{instrument.value[1:]}; made, seed 1" in text
    others = [other.value for other in Instrument if other.value not in instrument.value]
    assert not [other for other in others if f"{other}; made" in text.lower()]


def test_rows_of_two_instruments_are_counted_apart() -> None:
    made = results(lambda *_: 100.0, BY_TRIP)
    rows = tuple(
        replace(row, instrument=Instrument.FAST if row.system is System.TREES else row.instrument) for row in made.rows
    )
    assert "Simulated (16 rows), simulated, aggregated (4 rows); made, seed 1" in report([replace(made, rows=rows)])


@pytest.mark.parametrize(
    "sweep",
    [
        {},
        {"seed": (1, 2)},
        {"workload.sessions": (1, 8)},
        {"drafters.far.card": ("L4", "T4")},
        {"network.round_trip_ms": (0, 1)},
    ],
    ids=str,
)
@pytest.mark.parametrize("goodput", [0.0, 100.0])
def test_whatever_is_swept_there_is_a_page(sweep: dict[str, tuple[float | int | str, ...]], goodput: float) -> None:
    page_of(results(lambda system, _: goodput if system is not System.ALONE else 0.0, sweep))


def test_without_rows_there_is_none() -> None:
    with pytest.raises(FieldError, match="at least one row"):
        report([replace(results(lambda *_: 1.0), rows=())])


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    if CHROMIUM is None:
        pytest.skip("chromium is not installed")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()


@pytest.mark.parametrize("width", WIDTHS)
def test_a_browser_shows_it_and_asks_for_nothing(browser: Browser, whole: str, tmp_path: Path, width: int) -> None:
    file = tmp_path / "report.html"
    file.write_text(whole, encoding="utf-8")
    with browser.new_context(viewport={"width": width, "height": 900}) as context:
        page, heard = context.new_page(), list[str]()
        page.on("pageerror", lambda error: heard.append(str(error)))
        page.on("console", lambda message: heard.append(message.text))
        page.on("request", lambda request: heard.append(request.url))
        page.goto(file.as_uri())
        assert heard == [file.as_uri()]
        assert page.evaluate("document.documentElement.scrollWidth") == width
        colour = page.evaluate("getComputedStyle(document.querySelector('svg .s-colocated')).color")
        assert colour != page.evaluate("getComputedStyle(document.body).color")  # its style is taken


def test_no_two_words_of_a_chart_cover_each_other_or_leave_it(browser: Browser, whole: str, tmp_path: Path) -> None:
    file = tmp_path / "report.html"
    file.write_text(whole, encoding="utf-8")
    with browser.new_context(viewport={"width": 420, "height": 900}) as context:
        page = context.new_page()
        page.goto(file.as_uri())
        charts = page.evaluate(BOXES)
    assert len(charts) > 20
    for frame, texts in charts:
        for index, (left, top, right, bottom, text) in enumerate(texts):
            assert left >= frame[0] - 1, text
            assert right <= frame[2] + 1, text
            assert top >= frame[1] - 2, text
            assert bottom <= frame[3] + 2, text
            for other in texts[:index]:
                wide = min(right, other[2]) - max(left, other[0])
                high = min(bottom, other[3]) - max(top, other[1])
                assert wide < 2 or high < 4, (text, other[4])


def test_costs_that_are_infinite_are_counted_not_drawn() -> None:
    text = report([results(lambda system, _: 0.0 if system is System.PEARL else 100.0, {})])
    assert "1 without a token within the SLO are not shown" in text
    assert not re.search(r'="[^"]*\b(nan|inf)\b', text)
    assert math.inf not in {float(found) for found in re.findall(r'cx="([^"]*)"', text)}
