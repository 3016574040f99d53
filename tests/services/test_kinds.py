"""Every kind of drafter, alone and beside every other, leaves the text as the target says it alone."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest
import torch

from drafter_service.drafters.base import DraftKind
from drafter_service.drafters.model import ModelDrafter
from drafter_service.drafters.ngram import NgramDrafter
from drafter_service.drafters.rag import RagDrafter
from drafter_service.drafters.recycling import RecyclingDrafter
from drafter_service.drafters.suffix import SuffixDrafter
from drafter_service.drafters.trigram import TrigramDrafter
from drafter_service.memory import SuffixMemory
from paceline.speculation.policy import Mode, SpeculationParameters
from paceline.speculation.sampling import SamplingParameters
from tests.in_process import InProcess, load, make_drafter

PROMPT = [1, 2, 3, 1, 2, 3, 4, 1, 2]
LENGTH, SESSIONS = 80, 2

KINDS: dict[str, Callable[[Path], DraftKind]] = {
    "model": lambda draft: ModelDrafter(load(draft)),
    "ngram": lambda draft: NgramDrafter(),
    "suffix": lambda draft: SuffixDrafter(SuffixMemory(10_000, 100)),
    "recycling": lambda draft: RecyclingDrafter(),
    "trigram": lambda draft: TrigramDrafter(),
    "rag": lambda draft: RagDrafter(load(draft), 64),
}
"""All but the datastore, which proposes as suffix does."""
CREWS = [(kind,) for kind in KINDS] + list(itertools.combinations(KINDS, 2)) + [tuple(KINDS)]


@cache
def target(path: Path) -> InProcess:
    torch.set_num_threads(1)
    return InProcess(load(path))


def texts(world: InProcess, temperature: float, speculation: SpeculationParameters) -> list[list[int]]:
    """Of some sessions one after the other, so that those who remember have something to remember."""
    sampling = SamplingParameters(max_tokens=LENGTH, temperature=temperature)
    found = []
    for seed in range(SESSIONS):
        name = f"{temperature}-{seed}"
        world.open(name, PROMPT, sampling, speculation, seed=seed)
        world.run()
        found.append(world.recorder.tokens.pop(name))
    return found


@cache
def own(path: Path, temperature: float) -> list[list[int]]:
    return texts(target(path), temperature, SpeculationParameters(mode=Mode.OFF))


@pytest.mark.parametrize("temperature", [0.0, 0.8])
@pytest.mark.parametrize("crew", CREWS, ids="+".join)
def test_the_text_is_the_target_s_own(
    crew: tuple[str, ...], temperature: float, target_path: Path, other_path: Path
) -> None:
    drafters = [make_drafter(KINDS[kind](other_path), 64 if kind in ("model", "rag") else 0) for kind in crew]
    world = InProcess(load(target_path), drafters)
    assert texts(world, temperature, SpeculationParameters()) == own(target_path, temperature)
