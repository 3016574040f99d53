"""``python -m tests.timeline.picture``: makes ``docs/timeline.png``.

A local fleet of the embedded pair whose forwards take as long as those of a larger pair would (emulated times), one
drafter. The same request runs in lockstep and overlapped a few times; of the pairs of runs the one is drawn that the
machine disturbed least, that is whose steps and growths took the least time beyond the emulated one.
"""

from __future__ import annotations

import asyncio
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

from playwright.sync_api import sync_playwright

from paceline.client import GatewayClient
from paceline.cluster.local import LocalCluster
from paceline.cluster.topology import emulated
from paceline.embedded import pair_topology
from paceline.messages import Generate
from paceline.speculation.policy import Mode, SpeculationParameters
from paceline.speculation.sampling import SamplingParameters
from paceline.timeline import write_timeline
from paceline.timeline.runs import drawn_in, repeatable

PICTURE = Path(__file__).parent.parent.parent / "docs" / "timeline.png"
TIMES, DRAFT_SECONDS, TARGET_SECONDS = "draft=4ms,target=40ms", 0.004, 0.04
PROMPT = 'def read_lines(path, encoding="utf-8"):\n    """Return the lines of a file."""\n'
SAMPLING = SamplingParameters(max_tokens=64, temperature=0.6, ignore_eos=True)
SPECULATION = SpeculationParameters(drafters=("draft",))
MODES = (Mode.LOCKSTEP, Mode.OVERLAPPED)
TRIES = 8
WIDTH, HEIGHT = 1180, 800

Answer = dict[str, Any]


async def quietest() -> list[Answer]:
    """One answer for each mode."""
    request = repeatable(Generate(text=PROMPT, sampling=SAMPLING, speculation=SPECULATION, seed=7))
    topology = emulated(pair_topology(), TIMES, "")
    async with LocalCluster(topology) as cluster, GatewayClient(cluster.gateway_address) as client:
        for mode in MODES:
            await drawn_in(client, request, mode)
        pairs = [[(await drawn_in(client, request, mode))[0] for mode in MODES] for _ in range(TRIES)]
    return min(pairs, key=lambda pair: sum(map(disturbance, pair)))


def disturbance(answer: Answer) -> float:
    """Seconds beyond the emulated ones, in all steps; and in growths that were sent one by one."""
    steps = [event for event in answer["events"] if event["type"] == "step"]
    seconds: float = sum(step["decided"] - step["launched"] - TARGET_SECONDS for step in steps)
    if answer["mode"] == Mode.OVERLAPPED.value:
        growths = [event for event in answer["events"] if event["type"] == "arrival"]
        seconds += sum(growth["busy"] - DRAFT_SECONDS for growth in growths)
    return seconds


def photograph(timeline: dict[str, Any], picture: Path) -> None:
    """The strip as a browser shows it."""
    chromium = shutil.which("chromium")
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        file = Path(folder) / "timeline.html"
        write_timeline(timeline, file)
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
        page = browser.new_page(viewport={"width": WIDTH, "height": HEIGHT}, device_scale_factor=2)
        page.goto(file.as_uri())
        page.evaluate("document.querySelector('.strip-zoom').hidden = true")
        page.wait_for_timeout(500)
        page.locator(".overlap").screenshot(path=picture)
        browser.close()


if __name__ == "__main__":
    answers = asyncio.run(quietest())
    photograph({"answers": answers}, Path(sys.argv[1]) if len(sys.argv) > 1 else PICTURE)
    sys.stdout.write(f"beyond the emulated times: {sum(map(disturbance, answers)):.3f} s\n")
