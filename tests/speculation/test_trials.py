"""A drafter that pays stays, one that does not goes, and trying costs little."""

from __future__ import annotations

import random

import pytest

from paceline.speculation.trials import LONGEST_GAP, Trials


class World:
    """Steps whose tokens and seconds depend on which drafters are on."""

    def __init__(self, seed: int = 0) -> None:
        self.trials, self.random = Trials(), random.Random(seed)
        self.tokens, self.seconds = 0, 0.0

    def run(self, steps: int, gains: dict[str, float], sessions: int = 1) -> None:
        """``gains``: by what factor each drafter changes the tokens per second; 2 tokens a step with any of them."""
        for _ in range(steps):
            on = [name for name in gains if self.trials.on(name)]
            tokens = sum(self.random.choice((1, 1, 2, 4)) if on else 1 for _ in range(sessions))
            seconds = sessions * (2.0 if on else 1.0) * self.random.uniform(0.8, 1.2) * 1e-3
            for name in on:
                seconds /= gains[name]
            self.trials.step(gains.keys(), sessions, tokens, seconds)
            self.tokens += tokens
            self.seconds += seconds

    @property
    def rate(self) -> float:
        return self.tokens / self.seconds / 1e3


@pytest.mark.parametrize("seed", range(5))
def test_a_useless_drafter_is_switched_off_and_costs_little(seed: int) -> None:
    world = World(seed)
    world.run(20_000, {"useless": 0.4})
    assert not world.trials.on("useless")
    assert world.rate > 0.97  # of the target alone


@pytest.mark.parametrize("seed", range(5))
def test_a_useful_drafter_stays_and_costs_little_to_try(seed: int) -> None:
    world = World(seed)
    world.run(20_000, {"useful": 1.5})
    assert world.trials.on("useful")
    assert world.rate > 0.97 * 1.5


@pytest.mark.parametrize("seed", range(5))
def test_each_is_judged_by_what_it_adds(seed: int) -> None:
    world = World(seed)
    world.run(6_000, {"good": 1.6, "bad": 0.7})
    assert (world.trials.on("good"), world.trials.on("bad")) == (True, False)
    gain = world.trials.gain("good")
    assert gain is not None
    assert gain > 0.2


def test_a_drafter_that_becomes_slow_goes_and_comes_back() -> None:
    world = World()
    world.run(3_000, {"a": 1.5})
    world.run(LONGEST_GAP + 1_000, {"a": 0.3})
    assert not world.trials.on("a")
    world.run(LONGEST_GAP + 1_000, {"a": 1.5})
    assert world.trials.on("a")


def test_what_pays_for_one_session_need_not_pay_for_many() -> None:
    world = World()
    for _ in range(3):
        world.run(1_000, {"a": 1.5}, sessions=1)
        assert world.trials.on("a")
        world.run(1_000, {"a": 0.5}, sessions=16)
        assert not world.trials.on("a")


def test_a_trial_of_a_drafter_that_leaves_is_forgotten() -> None:
    world = World()
    for _ in range(200):
        world.run(random.Random(1).randrange(1, 120), {"a": 1.2, "b": 1.2})
        world.run(1, {"b": 1.2})
    assert world.trials.on("b")


def test_one_bad_trial_is_not_the_end() -> None:
    """Whoever is switched off is told apart from whoever is known not to pay."""
    off, given_up = 0, 0
    for seed in range(20):
        world = World(seed)
        for _ in range(100):
            world.run(20, {"useful": 1.03})
            off += not world.trials.usual("useful")
            given_up += not world.trials.pays("useful")
        world.run(5_000, {"useful": 0.5})
        assert not world.trials.pays("useful")
    assert off > 0
    assert given_up < 0.8 * off
