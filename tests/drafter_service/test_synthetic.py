"""Drafters without models: right as often as told, in every mode, and never in a way that changes the text."""

from __future__ import annotations

import pytest
import torch

from drafter_service.config import DrafterConfig
from drafter_service.drafters.synthetic import SyntheticKind, SyntheticLookup, SyntheticModel
from drafter_service.loading import load_drafter
from drafter_service.service import Drafter
from paceline.bench.random_weights import TINIER, write_random
from paceline.emulation import Pace
from paceline.engine.runner import ModelRunner
from paceline.errors import FieldError
from paceline.messages import OverlapStatistics
from paceline.speculation.noise import noise_key
from paceline.speculation.policy import Mode, SpeculationParameters
from paceline.speculation.sampling import SamplingParameters
from paceline.synthetic import SyntheticDrafts, SyntheticTarget, text_of
from tests.in_process import InProcess, load, make_drafter

PROMPT, LENGTH, SESSIONS = tuple(range(5, 25)), 400, 3
KINDS = {"model": SyntheticModel, "ngram": SyntheticLookup}


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory) -> ModelRunner:
    torch.set_num_threads(1)
    return load(write_random(tmp_path_factory.mktemp("random") / "target", TINIER, seed=1))


def run(target: ModelRunner, drafters: list[Drafter], mode: Mode) -> list[OverlapStatistics]:
    """Statistics of some sessions; each has said its text."""
    world = InProcess(target, drafters, synthetic=SyntheticTarget())
    sampling = SamplingParameters(max_tokens=LENGTH, temperature=0.8, ignore_eos=True)
    for seed in range(SESSIONS):
        world.open(f"s{seed}", PROMPT, sampling, SpeculationParameters(mode), seed=seed)
    world.run()
    for seed in range(SESSIONS):
        text = text_of(noise_key(seed, 0, PROMPT))
        assert world.recorder.tokens[f"s{seed}"] == [text.token(len(PROMPT) + at) for at in range(LENGTH)]
    overlaps = [world.recorder.last[f"s{seed}"].overlap for seed in range(SESSIONS)]
    return [overlap for overlap in overlaps if overlap]


def drafting(kind: str, rates: str) -> Drafter:
    drafts = SyntheticDrafts.parse(rates)
    assert drafts is not None
    made: SyntheticKind = KINDS[kind](kind, drafts, None)
    return make_drafter(made, 0, kind)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("mode", [Mode.LOCKSTEP, Mode.OVERLAPPED])
def test_the_text_is_the_same_and_more_is_accepted_where_rates_are_higher(
    target: ModelRunner, kind: str, mode: Mode
) -> None:
    def accepted(rates: str) -> float:
        return sum(overlap.mean_accepted_length for overlap in run(target, [drafting(kind, rates)], mode)) / SESSIONS

    lengths = [accepted(rates) for rates in ("0,further=0", "0.5,further=0", "0.9,further=0")]
    assert lengths[0] == 1.0
    assert 1.3 < lengths[1] < lengths[2]


def test_two_drafters_that_guess_alike_are_right_at_the_same_places(target: ModelRunner) -> None:
    drafters = [drafting("model", "0.6"), drafting("ngram", "0.6")]
    run(target, drafters, Mode.OVERLAPPED)


def test_further_children_are_right_where_the_first_is_not(target: ModelRunner) -> None:
    def accepted(rates: str) -> int:
        return sum(overlap.accepted_nodes for overlap in run(target, [drafting("model", rates)], Mode.LOCKSTEP))

    assert accepted("0.4,further=0.9") > accepted("0.4,further=0")


def test_a_configuration_with_rates_needs_no_model() -> None:
    config = DrafterConfig("model", ("127.0.0.1:1",), emulate_acceptance="0.9", emulate_step_time="4ms")
    loaded = load_drafter(config)
    assert isinstance(loaded.drafter.kind, SyntheticModel)
    assert loaded.describe().kind == "model"
    lookup = load_drafter(DrafterConfig("ngram", ("127.0.0.1:1",), emulate_acceptance="0.9")).drafter.kind
    assert isinstance(lookup, SyntheticLookup)
    with pytest.raises(FieldError, match="emulate_acceptance"):
        DrafterConfig("ngram", ("127.0.0.1:1",), emulate_acceptance="2")
    with pytest.raises(FieldError, match="model"):
        DrafterConfig("model", ("127.0.0.1:1",))


def test_each_growth_takes_what_its_rows_take(target: ModelRunner) -> None:
    pace = Pace.parse("0.1ms,8=0.4ms")
    assert pace is not None
    rows: list[int] = []
    kind = SyntheticModel("model", SyntheticDrafts((0.8,)), pace)
    grow = kind.grow_trees
    kind.grow_trees = lambda sessions: rows.append(grow(sessions)) or rows[-1]  # type: ignore[func-returns-value, method-assign]
    run(target, [make_drafter(kind, 0)], Mode.OVERLAPPED)
    assert pace.forwards == len(rows) > 0
    assert pace.asked_seconds == pytest.approx(sum(pace.seconds(count) for count in rows))
    assert min(rows) >= 1
