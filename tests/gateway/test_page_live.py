"""The page as the gateway serves it, over a real fleet: a prompt is typed, coloured tokens and the strip are seen."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, expect

from paceline.cluster.local import LocalCluster
from paceline.embedded import pair_topology
from tests.gateway.test_page import HIT_PIXELS, PATIENCE_MS, browser

__all__ = ["browser"]


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    cluster = LocalCluster(pair_topology())
    with asyncio.Runner() as runner:
        runner.run(cluster.__aenter__())
        yield f"http://{cluster.http_address}/"
        runner.run(cluster.stop())


def test_a_prompt_is_answered_in_colours(address: str, browser: Browser) -> None:
    with browser.new_context(viewport={"width": 1280, "height": 900}) as context:
        page, complaints = context.new_page(), list[str]()
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
        page.goto(address)
        expect(page.locator("#model option")).to_have_text(["paceline-python-8m"], timeout=PATIENCE_MS)
        page.get_by_label("Prompt").fill("def read_lines(path):\n    for line in open(path):\n        ")
        page.get_by_label("Temperature").fill("0")
        page.locator("#mode").select_option("lockstep")  # in which drafters are waited for, whatever the machine does
        for _ in range(5):  # the first text may be over before the drafters have joined
            page.keyboard.press("Control+Enter")
            expect(page.locator("#status")).to_have_text(re.compile(r"^Done: \d+ tokens"), timeout=PATIENCE_MS)
            if page.locator("#answer .by-0").count() > 0:
                break
        page.get_by_role("button", name="show all").click()
        page.wait_for_function(f"({HIT_PIXELS})() > 0", timeout=PATIENCE_MS)
        assert page.locator("#answer .by-0").count() > 0
        assert complaints == []
