"""The text is a function of prompt, seed and target: nothing that drafters do changes it."""

from __future__ import annotations

import gc
import itertools
import multiprocessing
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import stats

from drafter_service.drafters.base import DraftKind
from drafter_service.drafters.model import ModelDrafter
from drafter_service.drafters.ngram import NgramDrafter
from drafter_service.service import Drafter
from paceline.engine.runner import ModelRunner
from paceline.messages import (
    DraftNodes,
    DraftUpdate,
    FinishReason,
    Join,
    OpenSession,
    SessionEvent,
    Verdicts,
    drafter_key,
)
from paceline.speculation.merge import NodeColumns
from paceline.speculation.noise import NoiseCache, noise_key
from paceline.speculation.policy import Mode, Shape, SpeculationParameters
from paceline.speculation.prefix import prefix_hash
from paceline.speculation.sampling import SamplingParameters, choose
from paceline.testing.scripts import SURE, GuessingKind
from tests.checkpoints import write_checkpoint
from tests.compare import float64_logits
from tests.in_process import SECRET, InProcess, load, make_drafter
from verifier_service.table import Limits

PROMPT = [1, 2, 3, 4, 5, 6, 1, 2, 3]
LENGTH = 60


Crew = Callable[[Path, Path], list[DraftKind]]
CREWS: dict[str, Crew] = {
    "none": lambda target, other: [],
    "perfect": lambda target, other: [ModelDrafter(load(target))],
    "random": lambda target, other: [ModelDrafter(load(other))],
    "ngram": lambda target, other: [NgramDrafter()],
    "hostile": lambda target, other: [GuessingKind(64, SURE)],
    "all": lambda target, other: [
        ModelDrafter(load(target)),
        ModelDrafter(load(other)),
        NgramDrafter(),
        GuessingKind(64, SURE),
    ],
}


def drafters(crew: str, target: Path, other: Path) -> list[Drafter]:
    return [make_drafter(kind, 64, f"{kind.name}-{i}") for i, kind in enumerate(CREWS[crew](target, other))]


@pytest.fixture(scope="module")
def target(target_path: Path) -> ModelRunner:
    return load(target_path)


def oracle(path: Path, prompt: Sequence[int], sampling: SamplingParameters, seed: int) -> list[int]:
    """The text as its definition says it, token by token, from float64 logits of transformers."""
    tokens, noise = list(prompt), NoiseCache(noise_key(seed, 0, prompt), 64)
    for _ in range(LENGTH):
        logits = float64_logits(path, tokens)[-1].astype(np.float32)
        tokens.append(choose(logits, sampling, noise, len(tokens)))
    return tokens[len(prompt) :]


SAMPLINGS = {
    "greedy": SamplingParameters(max_tokens=LENGTH, temperature=0),
    "0.8": SamplingParameters(max_tokens=LENGTH, temperature=0.8),
    "truncated": SamplingParameters(max_tokens=LENGTH, temperature=1.1, top_k=20, top_p=0.9),
}


@pytest.fixture(scope="module")
def oracles(target_path: Path) -> dict[str, list[int]]:
    return {name: oracle(target_path, PROMPT, sampling, seed=7) for name, sampling in SAMPLINGS.items()}


@pytest.mark.parametrize("sampling", SAMPLINGS)
@pytest.mark.parametrize("crew", CREWS)
@pytest.mark.parametrize("mode", Mode)
def test_same_text_in_every_mode_with_any_drafters(
    target: ModelRunner,
    target_path: Path,
    other_path: Path,
    oracles: dict[str, list[int]],
    mode: Mode,
    crew: str,
    sampling: str,
) -> None:
    for shape in Shape:
        world = InProcess(target, drafters(crew, target_path, other_path))
        world.open("s", PROMPT, SAMPLINGS[sampling], SpeculationParameters(mode=mode, shape=shape), seed=7)
        world.run()
        assert world.recorder.tokens["s"] == oracles[sampling]
        assert world.recorder.finished["s"] is FinishReason.LENGTH
    assert target.cache.pool.free == target.cache.pool.num_blocks


def test_a_perfect_drafter_is_believed(target: ModelRunner, target_path: Path, other_path: Path) -> None:
    """Else the test above might pass because nothing is ever accepted."""
    for mode in (Mode.OVERLAPPED, Mode.LOCKSTEP):
        world = InProcess(target, drafters("perfect", target_path, other_path))
        world.open("s", PROMPT, SAMPLINGS["0.8"], SpeculationParameters(mode=mode), seed=7)
        world.run()
        overlap = world.recorder.last["s"].overlap
        assert overlap is not None
        assert overlap.mean_accepted_length > 2
        assert overlap.accepted_nodes + overlap.steps == LENGTH


@pytest.mark.parametrize("mode", [Mode.OVERLAPPED, Mode.LOCKSTEP])
def test_drafters_that_die_change_nothing(
    target: ModelRunner, target_path: Path, other_path: Path, oracles: dict[str, list[int]], mode: Mode
) -> None:
    world = InProcess(target, drafters("all", target_path, other_path))
    world.open("s", PROMPT, SAMPLINGS["0.8"], SpeculationParameters(mode=mode), seed=7)

    def kill(turn: int) -> None:
        if turn == 4:
            for link in world.links:
                world.verifier.drafter_lost(link.forward)
            world.drafters.clear()

    world.run(between=kill)
    assert world.recorder.tokens["s"] == oracles["0.8"]


def test_a_drafter_that_comes_late_catches_up(
    target: ModelRunner, target_path: Path, other_path: Path, oracles: dict[str, list[int]]
) -> None:
    world = InProcess(target, drafters("perfect", target_path, other_path))
    late, link = world.drafters[0], world.links[0]
    world.drafters, world.links = [], []
    world.open("s", PROMPT, SAMPLINGS["0.8"], seed=7)
    opening = OpenSession(
        "s", 1, tuple(PROMPT), len(PROMPT), SAMPLINGS["0.8"], SpeculationParameters(), noise_key(7, 0, PROMPT), SECRET
    )

    def arrive(turn: int) -> None:
        if turn == 10:
            world.drafters = [late]
            world.attach(late, link, opening)

    world.run(between=arrive)
    assert world.recorder.tokens["s"] == oracles["0.8"]
    overlap = world.recorder.last["s"].overlap
    assert overlap is not None
    assert overlap.accepted_nodes > 20


def test_sessions_in_one_batch_give_what_each_gives_alone(
    target: ModelRunner, target_path: Path, other_path: Path
) -> None:
    prompts = {f"s{i}": [(i * 7 + j * (i + 1)) % 64 for j in range(3 + 11 * i)] for i in range(8)}
    together = InProcess(target, drafters("all", target_path, other_path))
    for name, prompt in prompts.items():
        together.open(name, prompt, SAMPLINGS["0.8"], seed=3)
    together.run()
    for name, prompt in prompts.items():
        alone = InProcess(target)
        alone.open(name, prompt, SAMPLINGS["0.8"], SpeculationParameters(mode=Mode.OFF), seed=3)
        alone.run()
        assert together.recorder.tokens[name] == alone.recorder.tokens[name]
    assert target.cache.pool.free == target.cache.pool.num_blocks


# -- exactness ---------------------------------------------------------------------------------------------------------

VOCABULARY = 8
SEEDS = 100_000
WAVE = 1000
ROOT_CANDIDATES, NEXT_CANDIDATES = (0, 7), (3, 5)
"""Proposed below every root, and below each of those."""


class FixedDrafter:
    """A link that answers every root with the same two levels of candidates, chosen independently of the noise."""

    def __init__(self) -> None:
        self.world: InProcess | None = None
        self.next_id: dict[str, int] = {}

    def send(self, verdicts: Verdicts) -> None:
        roots = [(j.session_id, j.position + len(j.token_ids) - 1) for j in verdicts.joined]
        roots += [(v.session_id, v.position + len(v.token_ids) - 1) for v in verdicts.verdicts if not v.ended]
        nodes = tuple(DraftNodes(session, 1, self._columns(session, position)) for session, position in roots)
        if nodes:
            assert self.world is not None
            self.world.verifier.update(DraftUpdate(nodes=nodes), self)

    def _columns(self, session: str, root: int) -> NodeColumns:
        first = self.next_id.get(session, 1)
        tokens, parents = list(ROOT_CANDIDATES), [0] * len(ROOT_CANDIDATES)
        for index in range(len(ROOT_CANDIDATES)):
            tokens += NEXT_CANDIDATES
            parents += [first + index] * len(NEXT_CANDIDATES)
        self.next_id[session] = first + len(tokens)
        scores = np.full(len(tokens), -0.1, np.float32)
        return NodeColumns(first, root, np.array(tokens, np.uint32), np.array(parents, np.uint64), scores)


class Collector:
    """A gateway link that keeps each session's steps apart."""

    def __init__(self) -> None:
        self.steps: dict[str, list[tuple[int, ...]]] = {}

    def send(self, events: Sequence[SessionEvent]) -> None:
        for event in events:
            if event.committed:
                self.steps.setdefault(event.session_id, []).append(event.committed.token_ids)


def test_joint_law_of_three_tokens(tmp_path: Path) -> None:
    """100,000 seeds through the whole verifier against exact enumeration.

    Five chi-square tests, alarm below 1e-4 each: 5e-4 together, once, since the seeds never change. The candidates do
    not depend on the noise, so the law of a token given how it came is the target's own, cut to the tokens that can
    come that way.
    """
    path = write_checkpoint(tmp_path, vocab_size=VOCABULARY, num_hidden_layers=1, seed=3, scale=0.18)
    halves = [(path, start, start + SEEDS // 2) for start in (0, SEEDS // 2)]
    with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("spawn")) as pool:
        steps = [session for half in pool.map(run_seeds, *zip(*halves, strict=True)) for session in half]
    law = joint_law(path)

    observed = np.zeros((VOCABULARY,) * 3)
    ways: dict[str, Counter[tuple[int, ...]]] = {"accepted": Counter(), "bonus": Counter(), "recovered": Counter()}
    for session in steps:
        tokens = tuple(itertools.chain(*session))
        observed[tokens] += 1
        ways[how_first_came(session)][tokens] += 1
        if len(session[0]) == 3:
            ways["bonus"][tokens] += 1
    assert observed.sum() == SEEDS
    check(observed, law)

    first, second = np.arange(VOCABULARY)[:, None, None], np.arange(VOCABULARY)[None, :, None]
    accepted, both = np.isin(first, ROOT_CANDIDATES), np.isin(second, NEXT_CANDIDATES)
    check(counts(ways["accepted"]), np.where(accepted, law, 0))
    check(counts(ways["recovered"]), np.where(~accepted, law, 0))
    check(counts(ways["bonus"]), np.where(accepted & both, law, 0))
    # the recovered second token, given an accepted first one
    recovered_second = Counter({t: n for t, n in ways["accepted"].items() if t[1] not in NEXT_CANDIDATES})
    check(counts(recovered_second), np.where(accepted & ~both, law, 0))


def run_seeds(path: Path, start: int, end: int) -> list[list[tuple[int, ...]]]:
    """Each session's tokens, step by step."""
    torch.set_num_threads(1)
    gc.disable()  # trees are cyclic: collecting between waves, and only what is new, is faster
    runner = load(path, cache_tokens=WAVE * 320)
    gc.freeze()
    prompt, sampling = (5,), SamplingParameters(max_tokens=3)
    hash_, length = prefix_hash(prompt), len(prompt)
    steps: list[list[tuple[int, ...]]] = []
    for wave in range(start, end, WAVE):
        gc.collect()
        world = InProcess(runner, limits=Limits(WAVE, WAVE, 4 * WAVE, 8 * WAVE))
        link, collector = FixedDrafter(), Collector()
        link.world = world
        for seed in range(wave, wave + WAVE):
            name = str(seed)
            opening = OpenSession(
                name, 1, prompt, length, sampling, SpeculationParameters(), noise_key(seed, 0, prompt), SECRET
            )
            world.verifier.command(opening, collector)
            join = Join(name, 1, "fixed", 1, drafter_key(SECRET, name, "fixed", 1), length, hash_)
            world.verifier.update(DraftUpdate(joins=(join,)), link)
        world.run()
        steps.extend(collector.steps[str(seed)] for seed in range(wave, wave + WAVE))
    return steps


def joint_law(path: Path) -> np.ndarray:
    """P(a, b, c) by enumeration, from float64 logits of transformers."""

    def conditional(tokens: Sequence[int]) -> np.ndarray:
        logits = float64_logits(path, tokens)[-1]
        weights = np.exp(logits - logits.max())
        return np.asarray(weights / weights.sum())

    law = np.zeros((VOCABULARY,) * 3)
    prompt = [5]
    first = conditional(prompt)
    for a in range(VOCABULARY):
        second = conditional([*prompt, a])
        for b in range(VOCABULARY):
            law[a, b] = first[a] * second[b] * conditional([*prompt, a, b])
    return law


def how_first_came(session: Sequence[tuple[int, ...]]) -> str:
    return "accepted" if len(session[0]) > 1 else "recovered"


def counts(sample: Counter[tuple[int, ...]]) -> np.ndarray:
    table = np.zeros((VOCABULARY,) * 3)
    for tokens, count in sample.items():
        table[tokens] = count
    return table


def check(observed: np.ndarray, law: np.ndarray) -> None:
    """Chi-square of the counts against the law, scaled to their sum; cells expected under 5 are pooled."""
    assert observed.sum() > 1000
    assert not observed[law == 0].any()
    expected = law / law.sum() * observed.sum()
    rare = expected < 5
    cells = [*observed[~rare], observed[rare].sum()], [*expected[~rare], expected[rare].sum()]
    kept = [(o, e) for o, e in zip(*cells, strict=True) if e > 0]
    assert stats.chisquare([o for o, _ in kept], [e for _, e in kept]).pvalue > 1e-4
