"""The page in a real browser, against a recorded session under the strictest content policy."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from itertools import chain

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

from tests.gateway.replay import MODEL, PAGE, SESSION, WORKERS, Refusal, Script, serving

CHROMIUM = shutil.which("chromium")
FLAGS = (
    "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--no-first-run",
)  # fmt: skip
PATIENCE_MS = 20_000
TOKENS = [token for chunk in SESSION["chunks"] for token in chunk["tokens"]]
EVENTS = [event for chunk in SESSION["chunks"] for event in chunk["events"]]
STEPS = [event for event in EVENTS if event["type"] == "step"]
TEXT = "".join(token["text"] for token in TOKENS)
HIT_PIXELS = """() => {
  const canvas = document.querySelector("#strip canvas");
  const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
  const hit = getComputedStyle(canvas).getPropertyValue("--hit").trim().match(/[0-9a-f]{2}/g);
  const [red, green, blue] = hit.map((digits) => parseInt(digits, 16));
  let count = 0;
  for (let at = 0; at < data.length; at += 4)
    count += data[at] === red && data[at + 1] === green && data[at + 2] === blue && data[at + 3] === 255;
  return count;
}"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    if CHROMIUM is None:
        pytest.skip("chromium is not installed")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture
def script() -> Script:
    return Script()


@pytest.fixture
def page(browser: Browser, script: Script) -> Iterator[Page]:
    """An open page; nothing may go wrong in it, and nothing against the content policy."""
    with serving(script) as address, browser.new_context(viewport={"width": 1280, "height": 900}) as context:
        context.set_default_timeout(PATIENCE_MS)
        page, complaints = context.new_page(), list[str]()
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
        page.goto(address)
        yield page
        refused = "Failed to load resource"  # how the browser notes each status that is an error
        assert [line for line in complaints if refused not in line] == []


def ready(page: Page) -> None:
    expect(page.locator("#model option")).to_have_text([MODEL])


def status(page: Page, begins: str) -> str:
    line = page.locator("#status")
    expect(line).to_have_text(re.compile(f"^{begins}"), timeout=PATIENCE_MS)
    return line.text_content() or ""


def problem(page: Page, says: str) -> None:
    expect(page.locator("#problem")).to_contain_text(says, timeout=PATIENCE_MS)


def generate(page: Page, prompt: str = "def f():\n") -> None:
    ready(page)
    page.get_by_label("Prompt").fill(prompt)
    page.get_by_role("button", name="Generate").click()


def test_a_prompt_becomes_coloured_text_and_a_strip(page: Page, script: Script) -> None:
    generate(page)
    assert status(page, "Done").startswith(f"Done: {len(TOKENS)} tokens")
    expect(page.locator("#answer")).to_have_text("def f():\n" + TEXT, use_inner_text=False)
    order = {"draft": 0, "ngram": 1}
    seen = page.locator("#answer .token").evaluate_all("all => all.map((one) => [one.textContent, one.className])")
    said = [(token["text"], [order[name] for name in token["drafters"]]) for token in TOKENS if token["text"]]
    names = ("by-", "and-")
    assert seen == [
        [text, " ".join(["token", *(names[i] + str(slot) for i, slot in enumerate(slots))])] for text, slots in said
    ]
    plain, guessed = page.locator("#answer .token:not([class*=by-])").first, page.locator("#answer .by-0").first
    styles = [one.evaluate("one => getComputedStyle(one).color") for one in (plain, guessed)]
    assert styles[0] != styles[1]
    verified, accepted = (sum(len(step[name]) for step in STEPS) for name in ("verified", "accepted"))
    label = f"Timeline: {len(STEPS)} steps, {verified} nodes verified, {accepted} of them hits"
    expect(page.locator(".strip-scroll")).to_have_attribute("aria-label", label)
    assert page.evaluate(HIT_PIXELS) > 100
    assert script.requests == [
        {
            "model": MODEL,
            "prompt": "def f():\n",
            "max_tokens": 128,
            "temperature": 0.6,
            "stream": True,
            "stream_options": {"include_usage": True},
            "speculation": {"mode": "overlapped", "shape": "tree", "events": True},
        }
    ]


def test_numbers_follow_from_the_record(page: Page) -> None:
    generate(page)
    status(page, "Done")
    proposers: dict[int, set[str]] = {}
    for event in EVENTS:
        for node in event.get("nodes", ()):
            proposers.setdefault(node[0], set()).add(event["drafter"])
    rows = page.locator("#acceptance tr").all_inner_texts()
    for name, row in zip(("draft", "ngram"), rows, strict=True):
        verified, accepted = (
            sum(name in proposers[node_id] for step in STEPS for node_id in step[part])
            for part in ("verified", "accepted")
        )
        assert row.split() == [name, str(accepted), str(verified), f"{round(100 * accepted / verified)}", "%"]
    assert page.locator("#length").inner_text() == f"{len(TOKENS) / len(STEPS):.2f}"
    speed, dollars = float(page.locator("#speed").inner_text()), page.locator("#dollars").inner_text()
    per_hour = sum(worker[4] for worker in WORKERS)
    assert float(dollars.removeprefix("$")) == pytest.approx(per_hour / 3600 / speed * 1e6, rel=0.01, abs=0.01)


def test_without_prices_nothing_has_a_price(page: Page, script: Script) -> None:
    script.prices = False
    page.reload()
    generate(page)
    status(page, "Done")
    expect(page.locator("#dollars")).to_have_text("n/a")


def test_markup_in_a_completion_stays_text(page: Page, script: Script) -> None:
    script.first_text = '<script>document.title = "taken"</script><img src="x" onerror="document.title = 1">'
    generate(page, "<b>bold</b>")
    status(page, "Done")
    expect(page.locator("#answer")).to_contain_text(script.first_text)
    expect(page.locator("#answer")).to_contain_text("<b>bold</b>")
    assert page.locator("#answer :not(span)").count() == 0
    page.locator(".strip-scroll").press("Home")
    page.locator(".strip-scroll").press("Home")
    expect(page.locator(".strip-tip")).to_contain_text("onerror=")
    assert page.locator(".strip-tip :not(div)").count() == 0
    assert page.title() == "Paceline"


@pytest.mark.parametrize("how", ["button", "escape"])
def test_stopping_ends_the_session_and_keeps_the_text(how: str, page: Page, script: Script) -> None:
    script.speed = 0.5
    generate(page)
    expect(page.locator("#answer .token").nth(3)).to_be_visible()
    if how == "button":
        page.get_by_role("button", name="Stop").click()
    else:
        page.keyboard.press("Escape")
    status(page, "Stopped")
    assert script.hung_up.wait(PATIENCE_MS / 1000)
    assert page.locator("#answer .token").count() >= 4
    expect(page.get_by_role("button", name="Generate")).to_be_enabled()


def test_all_of_it_works_from_the_keyboard(page: Page) -> None:
    ready(page)
    page.get_by_label("Prompt").focus()
    page.keyboard.press("Control+a")
    page.keyboard.type("import os")
    page.keyboard.press("Control+Enter")
    status(page, "Done")
    focused = []
    for _ in range(11):
        page.keyboard.press("Tab")
        focused.append(page.evaluate("document.activeElement.id || document.activeElement.className"))
    fields = ["model", "mode", "shape", "max_tokens", "temperature", "seed", "go", "answer", "strip-scroll"]
    assert focused[: len(fields)] == fields
    strip, spoken = page.locator(".strip-scroll"), page.locator("#strip [aria-live]")
    strip.focus()
    page.keyboard.press("End")
    expect(spoken).to_contain_text(f"step from {STEPS[-1]['launched'] * 1000:.1f}")
    page.keyboard.press("ArrowLeft")
    expect(spoken).to_contain_text(f"step from {STEPS[-2]['launched'] * 1000:.1f}")
    page.keyboard.press("ArrowUp")
    expect(spoken).to_contain_text("ngram: ")
    page.keyboard.press("ArrowUp")
    expect(spoken).to_contain_text("draft: ")
    page.keyboard.press("0")
    assert strip.evaluate("one => one.scrollWidth === one.clientWidth")
    page.keyboard.press("+")
    assert strip.evaluate("one => one.scrollWidth > one.clientWidth")
    page.keyboard.press("Escape")
    expect(page.locator(".strip-tip")).to_be_hidden()


def test_pointing_at_a_step_names_its_tokens(page: Page) -> None:
    generate(page)
    status(page, "Done")
    canvas = page.locator("#strip canvas")
    box = canvas.bounding_box()
    assert box is not None
    canvas.hover(position={"x": box["width"] - 40, "y": box["height"] - 50})
    expect(page.locator(".strip-tip")).to_contain_text(f"says: “{TOKENS[-2]['text']}”  “{TOKENS[-1]['text']}”")


class TestKey:
    @pytest.fixture
    def script(self) -> Script:
        return Script(api_key="right")

    def test_is_asked_for_and_kept_in_the_tab_only(self, page: Page) -> None:
        problem(page, "needs an API key")
        field = page.get_by_label("API key")
        expect(field).to_be_focused()
        expect(field).to_have_attribute("type", "password")
        field.fill("wrong")
        field.press("Enter")
        problem(page, "does not know this API key")
        field.fill("right")
        field.press("Enter")
        ready(page)
        expect(page.locator("#key-form")).to_be_hidden()
        expect(page.locator("#problem")).to_be_hidden()
        generate(page)
        status(page, "Done")
        kept = page.evaluate("[Object.values(sessionStorage), localStorage.length, document.cookie]")
        assert kept == [["right"], 0, ""]
        page.reload()
        ready(page)

    def test_is_asked_for_again_when_it_is_no_longer_known(self, page: Page, script: Script) -> None:
        page.get_by_label("API key").fill("right")
        page.get_by_role("button", name="Use key").click()
        ready(page)
        script.api_key = "another"
        generate(page)
        problem(page, "does not know this API key")
        expect(page.get_by_label("API key")).to_be_focused()


@pytest.mark.parametrize(
    ("refusal", "says"),
    [
        (Refusal(429, "256 sessions wait already", retry_after=3), "busy, try again in 3 s: 256 sessions wait already"),
        (Refusal(400, "expected at most 4096", param="max_tokens"), "max_tokens: expected at most 4096"),
        (Refusal(503, "no verifier serves this model"), "could not answer: no verifier serves this model"),
    ],
)
def test_refusals_are_told_in_words(refusal: Refusal, says: str, page: Page, script: Script) -> None:
    script.refusal = refusal
    generate(page)
    problem(page, says)
    invalid = page.locator("[aria-invalid=true]").evaluate_all("all => all.map((one) => one.id)")
    assert invalid == ([refusal.param] if refusal.param else [])
    script.refusal = None
    generate(page)
    status(page, "Done")
    expect(page.locator("#problem")).to_be_hidden()


def test_a_broken_answer_keeps_what_has_come(page: Page, script: Script) -> None:
    told = len(list(chain(*(chunk["tokens"] for chunk in SESSION["chunks"][:3]))))
    script.break_after = 3
    generate(page)
    problem(page, "Connection lost")
    assert status(page, "Broken off").startswith(f"Broken off: {told} tokens")
    script.break_after, script.fail_after = None, 3
    generate(page)
    problem(page, "The answer broke off: no verifier is left")
    assert status(page, "Broken off").startswith(f"Broken off: {told} tokens")


def test_a_broken_answer_goes_on_after_what_has_come(page: Page, script: Script) -> None:
    script.goes_on, script.break_after, script.fail_after, script.fail_code = True, 3, 6, "unavailable"
    generate(page)
    assert status(page, "Done").startswith(f"Done: {len(TOKENS)} tokens")
    expect(page.locator("#status")).to_contain_text("the connection broke 2 times")
    expect(page.locator("#answer")).to_have_text("def f():\n" + TEXT, use_inner_text=False)
    expect(page.locator("#problem")).to_be_hidden()
    assert script.heard == [3, 6]
    assert script.requests == script.requests[:1] * 3
    expect(page.locator(".strip-scroll")).to_have_attribute("aria-label", re.compile(f"^Timeline: {len(STEPS)} steps"))


def test_what_goes_on_comes_later_in_the_record(page: Page) -> None:
    found = page.evaluate(
        """async () => {
          const { SessionRecord } = await import("/record.js");
          const record = new SessionRecord();
          const arrival = { type: "arrival", drafter: "a", nodes: [[1, 0, 5, 9, -1]], idle: 0, busy: 0 };
          const step = { type: "step", rooted: 0.1, launched: 0.2, decided: 0.5, accepted: [], token_ids: [5] };
          record.add({ ...arrival, at: 2 });
          record.goOn();
          record.add({ ...step, verified: [1] });
          record.add({ ...arrival, at: 1 });
          const [{ rooted, start, end, misses }] = record.steps;
          return [rooted, start, end, misses.length, record.lanes.get("a").items.at(-1).end, record.end];
        }"""
    )
    assert found == [2.1, 2.2, 2.5, 0, 3, 3]


def test_a_record_lies_where_its_session_was_placed(page: Page) -> None:
    """From when the gateway began with it; after a failover where it was opened again, whatever had been heard by then,
    and never before that. Each verifier has its lane."""
    found = page.evaluate(
        """async () => {
          const { SessionRecord } = await import("/record.js");
          const placed = (verifier, opened) => ({ type: "placed", verifier, epoch: 1, opened });
          const phase = (role, started, ended) => ({ type: "phase", name: "queue", role, started, ended, tokens: 0 });
          const times = { rooted: 0, launched: 0.25, decided: 0.5 };
          const step = { type: "step", ...times, verified: [], accepted: [], token_ids: [5], position: 9 };
          const record = new SessionRecord();
          const add = (...events) => events.forEach((event) => record.add(event));
          add(placed("a", 100), phase("gateway", -2, -1), phase("verifier", 0, 0), step);
          record.goOn();
          add(placed("b", 110), step, placed("a", 90), step);
          return [record.gateway.items.map(({ start, end }) => [start, end]), record.steps.map(({ start }) => start),
                  record.rows().map(({ role, name }) => role + name), record.steps.map(({ lane }) => lane.name)];
        }"""
    )
    assert found == [
        [[0, 1]], [2.25, 12.25, 12.75], ["gateway", "verifiera", "verifierb"], ["a", "b", "a"],
    ]  # fmt: skip


def test_an_answer_that_goes_on_elsewhere_is_left_there(page: Page, script: Script) -> None:
    script.goes_on, script.fail_after, script.fail_code = True, 3, "aborted"
    generate(page)
    problem(page, "The answer broke off")
    assert script.heard == []


def test_stopping_ends_the_wait_for_an_answer_that_broke(page: Page, script: Script) -> None:
    script.goes_on, script.break_after, script.speed = True, 3, 1.0
    generate(page)
    status(page, "Trying to go on")
    page.keyboard.press("Escape")
    status(page, "Stopped")


def test_workers_are_watched(page: Page, script: Script) -> None:
    ready(page)
    rows = page.locator("#workers tr")
    expect(rows).to_have_count(len(WORKERS))
    expect(rows.nth(1)).to_have_text(re.compile("^draft ?model drafter ?1 / 256 ?0.35$"))
    script.away = {"draft"}
    expect(rows.nth(1)).to_contain_text("draft (away)")
    expect(page.locator("#state")).to_have_text("2 of 3 workers serve")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_fits_a_narrow_screen(scheme: str, page: Page) -> None:
    """Nothing is cut off and nothing lies over anything else, even on 360 pixels."""
    page.emulate_media(color_scheme="dark" if scheme == "dark" else "light")
    page.set_viewport_size({"width": 360, "height": 700})
    generate(page)
    status(page, "Done")
    assert page.evaluate("document.documentElement.scrollWidth") == 360
    cut = "all => all.filter((one) => one.scrollWidth > one.clientWidth).map((one) => one.textContent)"
    assert page.locator(".panel, label").evaluate_all(cut) == []
    assert page.evaluate(HIT_PIXELS) > 20


def test_the_strip_is_as_wide_as_the_page(page: Page) -> None:
    ready(page)
    wide = "one => one.getBoundingClientRect().width"
    assert page.locator(".overlap").evaluate(wide) > 1200
    tops = page.locator(".overlap ~ .panel").evaluate_all("all => all.map((one) => one.getBoundingClientRect().top)")
    assert len(tops) == 3
    assert len(set(tops)) == 1


def test_a_long_record_is_drawn_where_it_is_looked_at(page: Page) -> None:
    """10,000 events: the canvas stays as wide as its window, and every part of the record can be reached."""
    ready(page)
    page.evaluate(
        """async () => {
          const { Strip } = await import("/strip.js");
          const element = document.createElement("div");
          element.id = "long";
          document.querySelector("#strip").replaceWith(element);
          const events = [];
          for (let step = 0; step < 2500; step += 1) {
            const start = step * 0.04, ids = [1, 2, 3, 4].map((id) => step * 4 + id);
            for (const [index, drafter] of ["a", "b", "c"].entries()) {
              const nodes = ids.map((id) => [id, 0, id % 100, step, -1]);
              events.push({ type: "arrival", at: start + 0.01 * (index + 1), drafter, nodes, idle: 0, busy: 0.03 });
            }
            events.push({ type: "step", rooted: start, launched: start + 0.004, decided: start + 0.04, verified: ids,
                          accepted: ids.slice(0, 2), token_ids: [1, 2, 3], position: step * 3 });
          }
          new Strip(element).add(events);
        }"""
    )
    strip, spoken = page.locator("#long .strip-scroll"), page.locator("#long [aria-live]")
    label = "Timeline: 2500 steps, 10000 nodes verified, 5000 of them hits"
    expect(strip).to_have_attribute("aria-label", label)
    narrow = (
        "one => [one.querySelector('canvas').clientWidth === one.clientWidth, one.scrollWidth > 100 * one.clientWidth]"
    )
    assert strip.evaluate(narrow) == [True, True]
    strip.press("End")
    strip.press("End")
    expect(spoken).to_contain_text("step from 99964.0 to 100000.0 ms")
    strip.press("Home")
    expect(spoken).to_contain_text("step from 4.0 to 40.0 ms")
    assert page.evaluate(HIT_PIXELS.replace("#strip", "#long")) > 100
    strip.press("0")
    assert strip.evaluate("one => one.scrollWidth === one.clientWidth")


def test_nothing_comes_from_elsewhere_and_nothing_is_inline() -> None:
    for path in PAGE.iterdir():
        text = path.read_text()
        assert re.findall(r"""["'(](?:https?:)?//(?!www\.w3\.org/2000/svg)""", text) == [], path
        assert re.findall(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(", text) == [], path
    markup = (PAGE / "index.html").read_text()
    assert re.findall(r"<style|\sstyle=|\son[a-z]+=|<script(?![^>]*\ssrc=)", markup) == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_all_colours_of_text_can_be_read(scheme: str) -> None:
    """WCAG 2.2, 1.4.3: a contrast of 4.5 on the panels and on the page."""
    blocks = re.findall(r":root(?::not\(\.paper\))? \{\n(.+?)\}", (PAGE / "page.css").read_text(), re.DOTALL)
    colours = dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6});", blocks[("light", "dark").index(scheme)]))
    text = ["ink", "muted", "hit", "miss", "accent", *(f"by-{slot}" for slot in range(6))]
    poor = [
        (name, ground)
        for name in text
        for ground in ("surface", "page")
        if contrast(colours[name], colours[ground]) < 4.5
    ]
    assert poor == []
    assert contrast(colours["on-accent"], colours["accent"]) >= 4.5
    assert all(contrast(colours[name], colours["block"]) >= 3 for name in ("ink", "hit", "miss"))


def contrast(one: str, other: str) -> float:
    dark, light = sorted(luminance(colour) for colour in (one, other))
    return (light + 0.05) / (dark + 0.05)


def luminance(colour: str) -> float:
    parts = (int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5))
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
