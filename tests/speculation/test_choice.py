"""Thompson sampling finds out who helps, goes on trying what may help, and notices when that changes."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection

import numpy as np

from paceline.speculation.choice import GroupChoice

GROUPS = ("helps", "idle", "harms")


def speed(groups: Collection[str], gains: dict[str, float], draw: np.random.Generator) -> float:
    return 50.0 * math.exp(sum(gains[group] for group in groups) + 0.25 * draw.normal())


def run(choice: GroupChoice, gains: dict[str, float], sessions: int, seed: int) -> Counter[str]:
    """How often each group was chosen in the last quarter."""
    draw, late = np.random.default_rng(seed), Counter[str]()
    for session in range(sessions):
        chosen = choice.choose("here", GROUPS)
        choice.observe("here", chosen, speed(chosen, gains, draw))
        if session >= 3 * sessions // 4:
            late.update(chosen)
    return late


def test_it_settles_on_who_helps_and_lets_go_of_who_harms() -> None:
    late = run(GroupChoice(), {"helps": 0.4, "idle": 0.0, "harms": -0.3}, 800, seed=1)
    assert late["helps"] > 190
    assert late["harms"] < 20


def test_it_notices_a_change() -> None:
    choice = GroupChoice()
    run(choice, {"helps": 0.4, "idle": 0.0, "harms": -0.3}, 800, seed=2)
    late = run(choice, {"helps": -0.3, "idle": 0.0, "harms": 0.4}, 1600, seed=3)
    assert late["helps"] < 80, "of 400"
    assert late["harms"] > 360


def test_a_new_fleet_uses_its_drafters() -> None:
    chosen = Counter(len(GroupChoice(seed).choose("here", GROUPS)) for seed in range(200))
    assert chosen[3] > 170


def test_situations_are_kept_apart() -> None:
    choice = GroupChoice()
    run(choice, {"helps": -0.5, "idle": -0.5, "harms": -0.5}, 400, seed=4)
    assert len(choice.choose("here", GROUPS)) < 3
    assert choice.choose("elsewhere", GROUPS) == set(GROUPS)


def test_nothing_to_choose_from() -> None:
    assert GroupChoice().choose("here", ()) == set()
