"""Routing: equal beginnings meet, nobody is crowded, and who comes or goes moves no more than it must."""

from __future__ import annotations

import random
import subprocess
import sys
from collections import Counter

import pytest

from gateway.routing import BUSIER, REMEMBERED, SLACK, Candidate, Router, beginnings, choose

IDLE = [Candidate(f"10.0.0.{index}:50052", 0, 64) for index in range(5)]


def prompts(count: int, length: int = 100, seed: int = 0) -> list[list[int]]:
    chance = random.Random(seed)
    return [[chance.randrange(1000) for _ in range(length)] for _ in range(count)]


def loaded(*sessions: int, capacity: int = 64) -> list[Candidate]:
    return [Candidate(f"v{index}", count, capacity) for index, count in enumerate(sessions)]


def test_beginnings_are_equal_as_far_as_the_texts_are() -> None:
    (text,) = prompts(1, 200)
    whole, other = beginnings(text, ""), beginnings([*text[:100], 7, *text[101:]], "")
    assert [b.blocks for b in whole] == [1, 2, 3, 4, 6, 8, 12]
    assert [a == b for a, b in zip(whole, other, strict=True)] == [True] * 5 + [False] * 2
    assert beginnings(text[:15], "") == ()
    assert [b.blocks for b in beginnings(text[:80], "")] == [1, 2, 3, 4, 5]
    assert not set(whole) & set(beginnings(text, "alice/"))


def test_a_long_prompt_has_few_beginnings() -> None:
    assert len(beginnings([1] * 128_000, "")) < 30


def test_all_processes_agree() -> None:
    code = (
        "from gateway.routing import Candidate, beginnings, choose\n"
        "idle = [Candidate(f'10.0.0.{i}:50052', 0, 64) for i in range(5)]\n"
        "print(choose(beginnings(range(100), 's'), idle).name)"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == choose(beginnings(range(100), "s"), IDLE).name


def test_prompts_are_spread_over_idle_verifiers() -> None:
    chosen = Counter(choose(beginnings(prompt, ""), IDLE).name for prompt in prompts(2000))
    assert set(chosen) == {candidate.name for candidate in IDLE}
    assert all(abs(count - 400) < 5 * (400 * 0.8) ** 0.5 for count in chosen.values())


@pytest.mark.parametrize("gone", range(5))
def test_a_verifier_that_leaves_moves_its_own_prompts_only(gone: int) -> None:
    """Read the other way round: one that joins takes prompts for itself and moves no others."""
    left = IDLE[:gone] + IDLE[gone + 1 :]
    for prompt in prompts(200):
        before, after = (choose(beginnings(prompt, ""), candidates) for candidates in (IDLE, left))
        assert before == after or before == IDLE[gone]


def test_what_has_a_beginning_in_common_goes_where_that_is() -> None:
    router, (system, *rest) = Router(), prompts(40, 160)
    first = router.route(system + rest[0], "", IDLE)
    assert {router.route(system + own, "", IDLE) for own in rest} == {first}
    assert len({router.route(own, "", IDLE) for own in rest}) > 1


def test_the_longest_beginning_decides() -> None:
    router, (system, one, other) = Router(), prompts(3, 160)
    here, there = router.route(system, "", loaded(0)), router.route(system + one, "", loaded(64, 0))
    assert (here, there) == ("v0", "v1")
    assert router.route(system + one + other, "", loaded(0, 5)) == "v1"
    assert router.route(system + other, "", loaded(0, 5)) == "v0"


def test_what_one_scope_was_given_is_nothing_to_another() -> None:
    """By what is remembered; by hash alone the two may meet by chance."""
    router, (prompt, *_) = Router(), prompts(1)
    mine = [router.route(prompt, "alice/", loaded(0, 60)) for _ in range(3)]
    theirs = {router.route(prompt, f"bob-{index}/", loaded(0, 0)) for index in range(20)}
    assert (set(mine), theirs) == ({"v0"}, {"v0", "v1"})


@pytest.mark.parametrize("seed", range(20))
def test_nobody_who_is_too_busy_is_chosen(seed: int) -> None:
    chance, router = random.Random(seed), Router()
    few = prompts(4, 64, seed)
    for _ in range(50):
        candidates = loaded(*(chance.randrange(80) for _ in range(4)))
        name = router.route(chance.choice(few), "", candidates)
        (chosen,) = [candidate for candidate in candidates if candidate.name == name]
        least = min(candidate.load for candidate in candidates)
        assert chosen.load <= max(BUSIER * least, least + SLACK)
        assert chosen.load < 1.0 or least >= 1.0


def test_one_prompt_that_everybody_sends_fills_all_verifiers_alike() -> None:
    """The hottest case: sessions never end, so loads must stay within the rule's bounds all the way up."""
    router, (prompt,), sessions = Router(), prompts(1), [0, 0, 0, 0]
    for _ in range(4 * 64):
        name = router.route(prompt, "", loaded(*sessions))
        sessions[int(name[1:])] += 1
        assert max(sessions) <= max(BUSIER * min(sessions), min(sessions) + SLACK * 64) + 1
    assert sessions == [64, 64, 64, 64]


def test_short_prompts_go_to_the_least_busy() -> None:
    assert Router().route([1, 2, 3], "", loaded(3, 1, 2)) == "v1"


def test_capacity_counts_and_not_the_number_of_sessions() -> None:
    large, small = Candidate("large", 20, 256), Candidate("small", 4, 8)
    assert choose((), [large, small]) is large


def test_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.routing.REMEMBERED", 50)
    router = Router()
    for prompt in prompts(100):
        router.route(prompt, "", IDLE)
    assert len(router._holders) == 50 < REMEMBERED
