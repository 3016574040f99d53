"""Virtual time is what it says, and policies in it give the target's own text."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from drafter_service.drafters.base import DraftKind
from drafter_service.drafters.model import ModelDrafter
from paceline.bench.overlap.policies import POLICIES
from paceline.bench.overlap.virtual_cells import Cell, VirtualCells
from paceline.bench.virtual import Times, Told, VirtualCluster
from paceline.messages import OpenSession
from paceline.speculation.noise import noise_key
from paceline.speculation.policy import Mode, SpeculationParameters
from paceline.speculation.sampling import SamplingParameters
from tests.in_process import load

PROMPT = (1, 2, 3, 4, 5, 6, 1, 2, 3)
TIMES = Times(step=0.02, draft=0.004, rtt=0.005)


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def told(
    target: Path, draft: Path | None, speculation: SpeculationParameters, tokens: int = 60, sessions: int = 1
) -> Told:
    kinds: list[DraftKind] = [ModelDrafter(load(draft, 4096))] if draft else []
    cluster = VirtualCluster(load(target), kinds, TIMES)
    sampling = SamplingParameters(max_tokens=tokens, temperature=0.8)
    return cluster.run(
        [
            OpenSession(
                f"s{index}", 1, PROMPT, len(PROMPT), sampling, speculation, noise_key(index, 0, PROMPT), b"secret"
            )
            for index in range(sessions)
        ]
    )


def speed(found: Told, name: str = "s0") -> float:
    return (len(found.tokens[name]) - 1) / (found.at[name][-1] - found.at[name][0])


def test_the_target_alone_takes_its_step_time(target_path: Path) -> None:
    found = told(target_path, None, SpeculationParameters(mode=Mode.OFF), sessions=3)
    for name in ("s0", "s1", "s2"):
        assert speed(found, name) == pytest.approx(1 / TIMES.step)


@pytest.mark.parametrize("policy", POLICIES)
def test_every_policy_gives_the_same_text_and_a_perfect_draft_speeds_it_up(policy: str, target_path: Path) -> None:
    off = told(target_path, None, SpeculationParameters(mode=Mode.OFF))
    found = told(target_path, target_path, POLICIES[policy][-1])
    assert found.tokens == off.tokens
    if policy != "off":
        assert speed(found) > 1.5 * speed(off)


def test_figures_do_not_depend_on_this_machine(target_path: Path, other_path: Path) -> None:
    first, second = (told(target_path, other_path, POLICIES["overlapped tree"][0]) for _ in range(2))
    assert first.at == second.at


def test_a_drafter_that_slows_down_in_mid_answer_costs_next_to_nothing() -> None:
    cells = [Cell(step=0.02, rtt=0.0, sessions=1, temperature=0.8)]
    assert VirtualCells(max_tokens=1).slowed_vs_off(cells) > 0.95


def test_a_useless_draft_costs_next_to_nothing(target_path: Path, other_path: Path) -> None:
    found = told(target_path, other_path, POLICIES["overlapped tree"][0], tokens=400)
    assert speed(found) > 0.97 / TIMES.step
