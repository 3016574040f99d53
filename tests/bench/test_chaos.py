"""Workers die under load, and every text is what it would have been."""

from __future__ import annotations

import json
import random
from collections import Counter
from pathlib import Path

from paceline.bench.chaos import ChaosBench, run
from paceline.bench.chaos.schedule import schedule


def test_a_fleet_whose_workers_die_gives_the_same_texts(tmp_path: Path) -> None:
    """Raises if a text differs, a token is missing or comes twice, or anything is left."""
    out = tmp_path / "chaos.json"
    run(ChaosBench(1, 1, 1, 1, restarts=False, clients=3, prompts=1, tokens=48, seed=3, json=out))
    results = json.loads(out.read_text())["results"]
    kills = {kind: results[f"{kind}_kills"] for kind in ("drafter", "verifier", "gateway")}
    assert kills == {"drafter": 1, "verifier": 1, "gateway": 1}
    assert results["requests"] > 40
    assert results["resumed"] > 0, "the gateway that was killed had answers in hand"
    assert {results[name] for name in ("mismatches", "duplicated", "lost", "leaks")} == {0}


def test_a_schedule_is_a_function_of_its_seed_and_has_all_that_was_asked_for() -> None:
    kills = {"drafter": 10, "verifier": 8, "gateway": 4}
    one, same, other = (schedule(kills, 2, random.Random(seed), restarts=True) for seed in (1, 1, 2))
    assert one == same != other
    assert Counter(fault.name for fault in one) == {
        "kill drafter": 10, "kill verifier": 8, "kill gateway": 4, "kill redis": 2,
        "stop drafter": 1, "stop verifier": 1, "stop gateway": 1,
        "restart drafter": 3, "restart verifier": 2, "restart gateway": 2,
    }  # fmt: skip
