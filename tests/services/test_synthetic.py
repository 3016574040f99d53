"""Synthetic acceptance in the verifier: rates are met, a rate of 0 changes nothing, nobody takes a text for real."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Sequence
from pathlib import Path

import pytest
import torch

from drafter_service.drafters.model import ModelDrafter
from gateway.running import exactness
from paceline.emulation import SyntheticAcceptance
from paceline.engine.runner import ModelRunner
from paceline.messages import VerifierDescription
from paceline.speculation.accept import Decision, walk
from paceline.speculation.fields import FieldError
from paceline.speculation.policy import Mode, SpeculationParameters
from paceline.speculation.sampling import SamplingParameters
from tests.in_process import InProcess, load, make_drafter
from verifier_service.config import VerifierConfig
from verifier_service.loading import load_target

torch.set_num_threads(1)
Steps = list[tuple[tuple[int, ...], Decision]]


@pytest.fixture(scope="module")
def target(target_path: Path) -> ModelRunner:
    return load(target_path)


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> Steps:
    """Parents of the rows and decision of every step that is run."""
    seen: Steps = []

    def watched(
        token_ids: Sequence[int],
        parents: Sequence[int],
        choice: Callable[[int], int],
        stop: Collection[int],
        limit: int,
    ) -> Decision:
        seen.append((tuple(parents), walk(token_ids, parents, choice, stop, limit)))
        return seen[-1][1]

    monkeypatch.setattr("verifier_service.steps.walk", watched)
    return seen


def texts(
    target: ModelRunner, draft: Path, rates: str, *, temperature: float = 0.8, mode: Mode = Mode.OVERLAPPED
) -> dict[str, list[int]]:
    """Four sessions, drafted for by a model that has nothing to do with the target."""
    drafter = make_drafter(ModelDrafter(load(draft)), target.config.vocabulary_size)
    world = InProcess(target, [drafter], synthetic=SyntheticAcceptance.parse(rates))
    for index in range(4):
        sampling = SamplingParameters(max_tokens=150, temperature=temperature)
        world.open(f"s{index}", [1, 2, 3 + index], sampling, SpeculationParameters(mode=mode), seed=index)
    world.run()
    return world.recorder.tokens


def likeliest_path(parents: Sequence[int]) -> tuple[int, ...]:
    """Rows from child to likeliest child, which always comes next."""
    end = 0
    while end + 1 < len(parents) and parents[end + 1] == end:
        end += 1
    return tuple(range(1, end + 1))


@pytest.mark.parametrize("mode", [Mode.LOCKSTEP, Mode.OVERLAPPED])
def test_with_a_rate_of_1_every_likeliest_child_is_accepted(
    target: ModelRunner, other_path: Path, steps: Steps, mode: Mode
) -> None:
    texts(target, other_path, "1", mode=mode)
    assert all(decision.accepted_rows == likeliest_path(parents) for parents, decision in steps)
    assert max(len(decision.accepted_rows) for _, decision in steps) > 2


@pytest.mark.parametrize("temperature", [0.0, 0.8])
def test_with_a_rate_of_0_every_text_is_the_target_s_own(
    target: ModelRunner, other_path: Path, temperature: float
) -> None:
    assert texts(target, other_path, "0", temperature=temperature) == texts(
        target, other_path, "", temperature=temperature
    )


def test_without_rates_nobody_is_asked(target: ModelRunner, other_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[object] = []
    monkeypatch.setattr(SyntheticAcceptance, "choice", lambda *_: asked.append(_))
    texts(target, other_path, "")
    assert not asked


def test_rates_are_met_by_depth_and_runs_repeat(target: ModelRunner, other_path: Path, steps: Steps) -> None:
    """The target of itself agrees with this draft in some five of a hundred cases, which is within the margin."""
    first = texts(target, other_path, "0.8,0.4", temperature=0.0)
    tested, accepted = Counter[int](), Counter[int]()
    for parents, decision in steps:
        for depth, row in enumerate(likeliest_path(parents), 1):
            tested[depth] += 1
            if row not in decision.accepted_rows:
                break
            accepted[depth] += 1
    assert tested[1] > 150
    assert accepted[1] / tested[1] == pytest.approx(0.8, abs=0.12)
    assert accepted[2] / tested[2] == pytest.approx(0.4, abs=0.15)
    assert texts(target, other_path, "0.8,0.4", temperature=0.0) == first


def test_the_fingerprint_says_so_and_so_does_every_completion(target_path: Path) -> None:
    def described(rates: str) -> VerifierDescription:
        config = VerifierConfig(str(target_path), threads=1, cache_tokens=1024, emulate_acceptance=rates)
        loaded = load_target(config)
        return VerifierDescription("v", loaded.info, loaded.fingerprint, 1, 0, 0, 1, 1)

    synthetic, plain = described("0.5"), described("")
    assert synthetic.fingerprint.numerics == "standard, synthetic acceptance"
    assert exactness(synthetic) == "synthetic acceptance: texts are not the target's"
    assert plain.fingerprint.numerics == "standard"
    assert "exact draw" in exactness(plain)


def test_rates_that_make_no_sense_are_named(target_path: Path) -> None:
    with pytest.raises(FieldError, match=r"emulate_acceptance = '2': expected probabilities"):
        VerifierConfig(str(target_path), emulate_acceptance="2")
