"""Many sessions, long prompts, few blocks: what company a session keeps changes when it is served, not what it says."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from drafter_service.drafters.model import ModelDrafter
from drafter_service.drafters.ngram import NgramDrafter
from paceline.engine.runner import ModelRunner, Numerics
from paceline.messages import ChangeSession, FinishReason
from paceline.speculation.policy import Mode, SpeculationParameters
from paceline.speculation.sampling import SamplingParameters
from tests.checkpoints import write_checkpoint
from tests.compare import assert_same_text
from tests.in_process import InProcess, load, make_drafter
from verifier_service.table import Limits

SAMPLING = SamplingParameters(max_tokens=24, temperature=0.8)
OFF = SpeculationParameters(mode=Mode.OFF)


@pytest.fixture(scope="module")
def long_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A target that takes long prompts."""
    return write_checkpoint(tmp_path_factory.mktemp("long"), max_position_embeddings=4096)


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> Iterator[None]:
    """Tiny products are not worth a second thread."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def prompts(lengths: Sequence[int]) -> list[list[int]]:
    rng = np.random.default_rng(0)
    return [rng.integers(0, 64, length).tolist() for length in lengths]


def alone(target: ModelRunner, prompt: list[int], seed: int) -> list[int]:
    """What a session says when nobody else is there and nothing is in the cache."""
    world = InProcess(target)
    world.open("s", prompt, SAMPLING, SpeculationParameters(mode=Mode.OFF, cache_scope="alone"), seed)
    world.run()
    return world.recorder.tokens["s"]


def mixed_lengths() -> list[int]:
    """200 lengths from 10 to 3,000, most of them short."""
    return [int(length) for length in np.geomspace(10, 3000, 200)]


@pytest.mark.parametrize("numerics", Numerics)
def test_200_sessions_of_mixed_lengths_say_what_each_says_alone(long_path: Path, numerics: Numerics) -> None:
    """Bitwise in deterministic numerics, with drafters, cached prefixes and preemptions; else up to near-ties."""
    together = ModelRunner.load(long_path, cache_tokens=20_000, numerics=numerics)
    apart = ModelRunner.load(long_path, cache_tokens=4096, numerics=numerics)
    texts = prompts(mixed_lengths())
    texts[100:150:10] = [texts[150][: len(text)] for text in texts[100:150:10]]  # some begin alike
    world = InProcess(together, [make_drafter(NgramDrafter(), 64)], Limits(max_sessions=200))
    order = np.random.default_rng(1).permutation(len(texts)).tolist()
    for index in order:
        world.open(f"{index}", texts[index], SAMPLING, seed=index)
    world.run(growths_per_step=1)
    assert set(world.recorder.finished.values()) == {FinishReason.LENGTH}
    assert together.cache.pool.free == together.cache.pool.num_blocks
    expected = [alone(apart, text, seed) for seed, text in enumerate(texts)]
    found = [world.recorder.tokens[f"{index}"] for index in range(len(texts))]
    if numerics is Numerics.DETERMINISTIC:
        assert found == expected
    else:
        for seed, (prompt, ours, theirs) in enumerate(zip(texts, found, expected, strict=True)):
            assert_same_text(long_path, prompt, ours, theirs, SAMPLING, seed)


def test_the_youngest_is_preempted_and_loses_nothing(long_path: Path) -> None:
    target = ModelRunner.load(long_path, cache_tokens=320, numerics=Numerics.DETERMINISTIC)
    texts = prompts([60, 50, 70, 40, 65])
    drafter = make_drafter(ModelDrafter(load(long_path)), 64)
    world = InProcess(target, [drafter])
    for index, text in enumerate(texts):
        world.open(f"{index}", text, SamplingParameters(max_tokens=120, temperature=0.8), seed=index)
    preemptions: dict[str, int] = {}

    def watch(turn: int) -> None:
        preemptions.update({session.session_id: session.stay.preemptions for session in world.verifier._table})

    world.run(between=watch)
    assert preemptions["0"] == 0
    assert sum(preemptions.values()) > 0
    for index, text in enumerate(texts):
        expected = InProcess(ModelRunner.load(long_path, cache_tokens=4096, numerics=Numerics.DETERMINISTIC))
        expected.open("s", text, SamplingParameters(max_tokens=120, temperature=0.8), OFF, seed=index)
        expected.run()
        assert world.recorder.tokens[f"{index}"] == expected.recorder.tokens["s"]
    assert target.cache.pool.free == target.cache.pool.num_blocks


def test_a_long_prompt_stalls_nobody(long_path: Path) -> None:
    """While it is computed running sessions emit in every step, and a short prompt has its first token at once."""
    world = InProcess(load(long_path, 8192), limits=Limits(prefill_chunk=128))
    long, short, running = prompts([3000, 20, 10])
    world.open("running", running, SamplingParameters(max_tokens=200), OFF)
    world.verifier.step()
    world.verifier.step()
    world.open("long", long, SAMPLING, OFF)
    for _ in range(5):
        world.verifier.step()
    world.open("short", short, SAMPLING, OFF)
    before = len(world.recorder.tokens["running"])
    world.verifier.step()
    assert len(world.recorder.tokens["short"]) == 1
    for _ in range(9):
        world.verifier.step()
    assert "long" not in world.recorder.tokens
    assert len(world.recorder.tokens["running"]) == before + 10
    for _ in range(20):
        world.verifier.step()
    assert "long" in world.recorder.tokens


def test_a_repeated_prefix_is_not_computed_again(long_path: Path) -> None:
    target = ModelRunner.load(long_path, cache_tokens=8192, numerics=Numerics.DETERMINISTIC)
    prompt, (other,) = prompts([2000])[0], prompts([30])
    world = InProcess(target)
    texts = {"first": [*prompt, *other], "again": [*prompt, *other], "further": [*prompt, 5, 6], "private": prompt}
    steps: dict[str, int] = {}
    for name, text in texts.items():
        scope = "mine" if name == "private" else ""
        world.open(name, text, SAMPLING, SpeculationParameters(mode=Mode.OFF, cache_scope=scope), seed=1)
        turns: list[int] = []
        world.run(between=turns.append)
        steps[name] = len(turns)
        assert world.recorder.tokens[name] == alone(target, text, 1)
    cached = {name: world.recorder.last[name].usage for name in texts}
    assert [usage.cached_tokens for usage in cached.values() if usage] == [0, 2016, 2000, 0]
    assert steps["again"] < steps["first"]


def test_a_lower_priority_is_served_first(long_path: Path) -> None:
    world = InProcess(load(long_path), limits=Limits(max_sessions=1))
    finished: list[str] = []
    for name in ("a", "b", "c", "d"):
        world.open(name, [1, 2, 3], SAMPLING, OFF)
    world.verifier.step()
    world.verifier.command(ChangeSession("c", priority=-1), world.recorder)
    world.run(between=lambda turn: finished.extend(set(world.recorder.finished) - set(finished)))
    assert finished == ["a", "c", "b", "d"]


def test_logits_that_are_not_numbers_fail_their_session_only(long_path: Path, tmp_path: Path) -> None:
    """Token 63 poisons whoever reads it: in a prompt, in a chunk before the last, or as a draft that is verified."""
    weights = load_file(long_path / "model.safetensors")
    weights["model.embed_tokens.weight"][63] = float("nan")
    save_file(weights, tmp_path / "model.safetensors", metadata={"format": "pt"})
    (tmp_path / "config.json").write_text((long_path / "config.json").read_text())
    healthy = [[token % 63 for token in text] for text in prompts([30, 300, 40, 5])]
    sampling = SamplingParameters(max_tokens=24, temperature=0.8, top_k=8)
    texts: list[dict[str, list[int]]] = []
    for poison in (False, True):
        world = InProcess(load(tmp_path, 8192), limits=Limits(prefill_chunk=128))
        for index, text in enumerate(healthy):
            world.open(f"{index}", text, sampling, seed=index)
            if poison:
                world.open(f"bad {index}", [*text[:20], 63, *text[20:]], sampling, seed=index)
        world.run()
        texts.append({name: tokens for name, tokens in world.recorder.tokens.items() if not name.startswith("bad")})
        if poison:
            failed = {n for n, reason in world.recorder.finished.items() if reason is FinishReason.ERROR}
            assert {f"bad {index}" for index in range(4)} <= failed
            assert "not numbers" in world.recorder.last["bad 1"].detail
            world.open("after", [*healthy[1][:20], 63, *healthy[1][20:]], sampling)
            world.run()
            usage = world.recorder.last["after"].usage
            assert usage is not None
            assert usage.cached_tokens == 16  # the whole blocks before the poison; nothing after it was kept
    assert texts[0] == texts[1]
