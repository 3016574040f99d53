"""A timeline's page in a real browser, from a file, under its own content policy."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect

from paceline.errors import FieldError
from paceline.timeline import check_ending, timeline_page, write_timeline
from tests.gateway.test_page import HIT_PIXELS, PATIENCE_MS, browser
from tests.timeline.answers import HOSTILE, in_turn, recorded

__all__ = ["browser"]

ANSWERS = {"answers": [in_turn(), recorded()]}
DRAWN = """() => {
  const canvas = document.querySelector("#strip canvas");
  const { data, width } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
  const rows = new Set();
  for (let at = 0; at < data.length; at += 4) if (data[at + 3]) rows.add(Math.floor(at / 4 / width));
  return [rows.size, canvas.height];
}"""


@pytest.fixture
def page(browser: Browser, tmp_path: Path) -> Iterator[Page]:
    """An open page; nothing may go wrong in it, and nothing be asked of any network."""
    file = tmp_path / "timeline.html"
    write_timeline(ANSWERS, file)
    with browser.new_context(viewport={"width": 1280, "height": 900}) as context:
        context.set_default_timeout(PATIENCE_MS)
        page, complaints, asked = context.new_page(), list[str](), list[str]()
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
        page.on("request", lambda request: asked.append(request.url))
        page.goto(file.as_uri())
        yield page
        assert complaints == []
        assert asked == [file.as_uri()]


def spoken(page: Page) -> str:
    return page.locator("#strip [aria-live]").inner_text()


def test_both_answers_have_their_lanes_on_one_axis(page: Page) -> None:
    strip = page.locator(".strip-scroll")
    steps = [event for one in ANSWERS["answers"] for event in one["events"] if event["type"] == "step"]
    verified, accepted = (sum(len(event[name]) for event in steps) for name in ("verified", "accepted"))
    label = f"Timeline: {len(steps)} steps, {verified} nodes verified, {accepted} of them hits"
    expect(strip).to_have_attribute("aria-label", label)
    strip.press("ArrowRight")
    lanes = []
    for _ in range(8):
        strip.press("ArrowUp")
    for _ in range(7):
        said = spoken(page)
        if said not in lanes:
            lanes.append(said)
        strip.press("ArrowDown")
    begins = [re.split(r"[: ]", said)[0] for said in lanes]
    assert begins == ["gateway", "small-0", "step", "gateway", "draft", "ngram", "step"]
    assert page.evaluate(HIT_PIXELS) > 100
    drawn, height = page.evaluate(DRAWN)
    assert drawn > 0.9 * height > 400
    assert page.locator(".strip-scroll").count() == 1
    heads = page.locator("#numbers thead th").all_inner_texts()
    assert heads == ["lockstep", "overlapped"]


def test_the_second_answer_is_seen_at_the_same_time_as_the_first(page: Page) -> None:
    """From a step down to the lane of the other answer's verifier: what is there at that time."""
    strip = page.locator(".strip-scroll")
    strip.press("ArrowRight")
    strip.press("Home")
    strip.press("ArrowRight")
    strip.press("ArrowRight")
    first = re.search(r"step from ([\d.]+) to", spoken(page))
    assert first is not None
    for _ in range(4):
        strip.press("ArrowDown")
    other = re.search(r"step from ([\d.]+) to ([\d.]+)", spoken(page))
    assert other is not None
    assert float(other[1]) - 50 < float(first[1]) <= float(other[2])


def test_pointing_names_tokens_and_estimates(page: Page) -> None:
    strip = page.locator(".strip-scroll")
    strip.press("ArrowRight")
    strip.press("Home")
    strip.press("ArrowUp")
    words = spoken(page)
    assert "small-0: 4 nodes at 60.0 ms, grown since 56.0 ms, sent at 60.0, there at 62.0" in words
    assert "61 %" in words
    assert "misses: “⟨202e⟩right·to·left⟨2066⟩” 22 %" in words
    assert "right, but the target had said it by then: “⟨202e⟩right·to·left⟨2066⟩” 90 %" in words
    assert "dropped: “nul⟨0000⟩⟨001b⟩[31m” < 1 %" in words
    box = page.locator("#strip canvas").bounding_box()
    assert box is not None
    page.keyboard.press("Escape")
    tip = page.locator(".strip-tip")
    expect(tip).to_be_hidden()
    scale = page.evaluate("document.querySelector('#strip canvas').clientWidth")
    assert scale == box["width"]
    found = page.evaluate(
        """() => {
          const canvas = document.querySelector("#strip canvas"), box = canvas.getBoundingClientRect();
          const said = [];
          for (let x = 2; x < 400; x += 3) for (let y = 60; y < 260; y += 3) {
            const at = { clientX: box.left + x, clientY: box.top + y, bubbles: true };
            canvas.dispatchEvent(new PointerEvent("pointermove", at));
            const line = document.querySelector(".strip-tip").textContent;
            if (line.includes("guessed by")) said.push(line);
          }
          return [...new Set(said)];
        }"""
    )
    assert any("guessed by small-0, 61 %" in line and "accepted" in line for line in found)
    assert any("after “\"'`${1}<!--”" in line for line in found)


def test_tokens_are_data_whatever_they_read(page: Page) -> None:
    assert page.title() == "Paceline timeline"
    assert page.locator("img, iframe, object, link").count() == 0
    assert page.locator("script").count() == 2
    told = page.evaluate("Object.values(JSON.parse(document.getElementById('timeline').textContent).answers[0].texts)")
    assert told == HOSTILE
    text = timeline_page(ANSWERS)
    assert text.count("</script") == 2
    assert not set(text) & {"\x00", "\u2028", "\u2029", "\u202e", "\x1b"}
    assert "<img" not in text


def test_nothing_but_its_own_script_may_run(browser: Browser, tmp_path: Path) -> None:
    file = tmp_path / "timeline.html"
    write_timeline(ANSWERS, file)
    page = browser.new_page()
    page.goto(file.as_uri())
    policy = page.locator("meta[http-equiv]").get_attribute("content") or ""
    assert policy.startswith("default-src 'none'; script-src 'sha256-")
    assert "unsafe" not in policy
    outcome = page.evaluate(
        """() => new Promise((resolve) => {
          document.addEventListener("securitypolicyviolation", (event) => resolve(event.violatedDirective));
          const script = document.createElement("script");
          try {
            script.text = "document.title = 'taken'";
            document.body.append(script);
          } catch {
            resolve("trusted types");
          }
        })"""
    )
    assert outcome in ("trusted types", "script-src-elem", "require-trusted-types-for")
    assert page.title() == "Paceline timeline"
    page.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_fits_a_narrow_screen_and_zooms(scheme: str, page: Page) -> None:
    page.emulate_media(color_scheme="dark" if scheme == "dark" else "light")
    page.set_viewport_size({"width": 360, "height": 700})
    assert page.evaluate("document.documentElement.scrollWidth") == 360
    page.wait_for_function(f"({HIT_PIXELS})() > 10")
    strip = page.locator(".strip-scroll")
    page.get_by_role("button", name="show all").click()
    assert strip.evaluate("one => one.scrollWidth === one.clientWidth")
    strip.press("+")
    assert strip.evaluate("one => one.scrollWidth > one.clientWidth")


def test_on_paper_it_is_light(page: Page) -> None:
    page.emulate_media(color_scheme="dark")
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    ink = "getComputedStyle(document.querySelector('canvas')).getPropertyValue('--ink').trim()"
    assert page.evaluate(ink) == "#1a1e25"
    page.evaluate("dispatchEvent(new Event('afterprint'))")
    assert page.evaluate(ink) == "#e7eaf0"


def test_the_script_is_whole() -> None:
    """Every module of it stands in one; nothing is left of what joined them."""
    text = timeline_page({"answers": []})
    assert re.findall(r"^\s*(?:import|export)\b", text, re.MULTILINE) == []
    assert re.findall(r"""["'(](?:https?:)?//""", text) == []


@pytest.mark.parametrize("name", ["timeline.txt", "timeline", "timeline.HTML", "nowhere/timeline.html"])
def test_a_file_that_cannot_be_written_is_refused_by_name(name: str, tmp_path: Path) -> None:
    with pytest.raises(FieldError, match=r"timeline = .*expected a file"):
        check_ending(tmp_path / name, "timeline")


def test_a_file_is_replaced(tmp_path: Path) -> None:
    file: Path = tmp_path / "timeline.json"
    empty: dict[str, Any] = {"answers": []}
    for timeline in (ANSWERS, empty):
        write_timeline(timeline, file)
    assert file.read_text() == '{"traceEvents":[],"displayTimeUnit":"ms"}\n'
