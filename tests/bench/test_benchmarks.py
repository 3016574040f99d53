"""The benchmarks run from end to end, on models that take no time: their figures mean nothing here, their rows do."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer

from paceline.bench.accelerator import AcceleratorBench
from paceline.bench.baselines import Ask, Baselines
from paceline.bench.decode import DecodeBench
from paceline.bench.engine import EngineBench, shapes
from paceline.bench.prefill import PrefillBench
from paceline.bench.random_weights import LLAMA_3_2_1B, LLAMA_3_8B, PAIRS, write_random
from paceline.engine.config import ModelConfig
from paceline.engine.weights import load_weights
from paceline.settings import parse
from paceline.training.tokenizer import train_tokenizer
from tests.checkpoints import write_checkpoint


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A tiny target and draft with the same tokenizer."""
    tokenizer: Tokenizer = train_tokenizer(["def f(x):\n    return x\n", "hello world " * 20])
    paths = []
    for name, seed in (("target", 0), ("draft", 1)):
        path = write_checkpoint(
            tmp_path_factory.mktemp(name),
            vocab_size=tokenizer.get_vocab_size(),
            seed=seed,
            max_position_embeddings=4096,
        )
        tokenizer.save(str(path / "tokenizer.json"))
        paths.append(path)
    return paths[0], paths[1]


def bench(name: str, *arguments: str, file: Path) -> tuple[dict[str, Any], str]:
    """What it wrote, and its last line."""
    done = subprocess.run(
        [sys.executable, "-m", "paceline.cli.main", "bench", name, *arguments, "--json", str(file)],
        capture_output=True, text=True, check=False, timeout=150, env={**os.environ, "COLUMNS": "120"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return json.loads(file.read_text()), done.stdout.splitlines()[-1]


def test_engine(pair: tuple[Path, Path], tmp_path: Path) -> None:
    content, last = bench("engine", "--models", str(pair[0]), "--repeats", "1", file=tmp_path / "rows.json")
    seen = {(row["rows"], row["sessions"], row["engine"]) for row in content["rows"]}
    engines = ("paceline", "deterministic", "transformers", "floor")
    assert seen == {(*shape, engine) for shape in shapes() for engine in engines}
    assert last.startswith("RESULT step1_vs_transformers=")
    assert "nan" not in last


def test_decode(pair: tuple[Path, Path], tmp_path: Path) -> None:
    options = ["--target", str(pair[0]), "--draft", str(pair[1]), "--batches", "1,16", "--max-tokens", "6"]
    content, last = bench("decode", *options, "--repeats", "1", file=tmp_path / "rows.json")
    assert {(row["system"], row["batch"]) for row in content["rows"] if row["batch"] == 16} == {
        (system, 16) for system in ("off", "lockstep", "overlapped", "generate", "continuous batching")
    }
    assert "nan" not in last


def test_accelerator(tmp_path: Path) -> None:
    options = ["--device", "cpu", "--dtype", "float32", "--shape", "tiny", "--batches", "1,2", "--max-tokens", "8"]
    content, last = bench("accelerator", *options, "--repeats", "1", file=tmp_path / "rows.json")
    rows = content["rows"]
    assert {(row["mode"], row["batch"]) for row in rows} == {
        (mode, batch) for mode in ("off", "lockstep", "overlapped") for batch in (1, 2)
    }
    assert content["parameters"]["acceptance"] == "synthetic acceptance: 0.8,0.7,0.6,0.5"
    assert {row["exactness"] for row in rows} == {"synthetic acceptance: texts are not the target's"}
    assert max(row["mean_accepted_length"] for row in rows if row["mode"] == "lockstep") > 1
    assert [part.split("=")[0] for part in last.split()] == [
        "RESULT", "overlapped_vs_off_1", "overlapped_vs_off_2", "lockstep_vs_off_1"
    ]  # fmt: skip
    assert "nan" not in last


def test_a_device_that_is_not_there_is_one_line() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "paceline.cli.main", "bench", "accelerator", "--device", "cuda:99"],
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line.startswith("paceline bench accelerator: device = 'cuda:99': expected a device of this machine: cpu")


def test_random_weights_have_the_shapes_of_the_models_they_stand_for(tmp_path: Path) -> None:
    """Their published numbers of parameters; and what is written can be loaded, with logits that are numbers."""
    assert (LLAMA_3_8B.parameters, LLAMA_3_2_1B.parameters) == (8_030_261_248, 1_235_814_400)
    for index, shape in enumerate(PAIRS["tiny"]):
        path = write_random(tmp_path / str(index), shape, seed=index)
        weights = load_weights(path, ModelConfig.load(path), torch.device("cpu"), torch.bfloat16)
        hidden = torch.nn.functional.rms_norm(torch.randn(50, shape.hidden), [shape.hidden])
        assert 2 < (hidden.bfloat16() @ weights.head.weight).float().std() < 4


def test_baselines_give_the_target_s_own_greedy_text(pair: tuple[Path, Path]) -> None:
    """All of Transformers' ways are asked for the same thing."""
    baselines = Baselines(*pair, threads=1)
    prompts = [[5, 6, 7, 5, 6, 7, 5, 6], [9, 8]]
    try:
        answers = {
            system: baselines.answer(Ask(system, prompts, 8, 0.0, seed=0)).token_ids
            for system in ("generate", "assisted", "prompt lookup", "continuous batching")
        }
    finally:
        baselines.close()
    assert all(answer == answers["generate"] for answer in answers.values())


def test_drafters(tmp_path: Path) -> None:
    options = ["--texts", "1", "--tokens", "24", "--kinds", "edits", "--crews", "ngram"]
    content, last = bench("drafters", *options, file=tmp_path / "rows.json")
    tau = {row["crew"]: row["tau"] for row in content["rows"] if row["target"] == "replay"}
    assert tau["off"] == 1.0
    assert tau["ngram"] > 2.0, "an edit repeats its prompt"
    assert "mismatches=0.00" in last


def test_rag(tmp_path: Path) -> None:
    options = ["--prompt", "600", "--tokens", "8", "--texts", "1", "--repeats", "1"]
    content, last = bench("rag", *options, file=tmp_path / "rows.json")
    timed = [(row["model"], row["kind"]) for row in content["rows"] if row["measured"] == "time"]
    assert timed == [(model, kind) for model in ("0.9m", "8m") for kind in ("full", "rag")]
    assert all(row["tau"] >= 1 for row in content["rows"] if row["measured"] == "acceptance")
    assert "acceptance_ratio=" in last


def test_lookup(tmp_path: Path) -> None:
    options = ["--memory-tokens", "20000", "--texts", "1", "--tokens", "8"]
    content, last = bench("lookup", *options, file=tmp_path / "rows.json")
    assert {row["kind"] for row in content["rows"]} >= {"ngram", "recycling", "trigram", "suffix", "datastore"}
    assert all(row["nodes"] <= 32 for row in content["rows"])
    assert any(row["nodes"] == 32 for row in content["rows"])
    assert content["results"]["bytes_per_token"] == pytest.approx(8.0, abs=0.1)
    assert "us_suffix=" in last


def test_hostile(tmp_path: Path) -> None:
    options = ["--scripts", "lying,unreadable", "--sessions", "1,2", "--tokens", "16", "--repeats", "1"]
    content, last = bench("hostile", *options, file=tmp_path / "rows.json")
    cells = {(row["script"], row["sessions"]) for row in content["rows"]}
    assert cells == {(script, sessions) for script in ("lying", "unreadable") for sessions in (1, 2)}
    assert last.startswith("RESULT hostile_worst=")
    assert last.endswith("texts_changed=0")


def test_telemetry(tmp_path: Path) -> None:
    options = ["--sessions", "1", "--tokens", "64", "--repeats", "2"]
    content, last = bench("telemetry", *options, file=tmp_path / "rows.json")
    assert [row["level"] for row in content["rows"]] == ["off", "default", "full", "default", "full", "off"]
    assert all(row["tokens"] == 64 for row in content["rows"])
    assert last.startswith("RESULT default_vs_off=")


@pytest.mark.parametrize(
    ("kind", "arguments", "says"),
    [
        (DecodeBench, ["--batches", "1,many"], "--batches 1,many: expected whole numbers above 0"),
        (EngineBench, ["--models", "nothing"], "--models"),
        (EngineBench, ["--colour", "red"], "--colour"),
        (PrefillBench, ["--tokens", "0"], "--tokens 0: expected at least 1"),
        (AcceleratorBench, ["--shape", "70b"], "--shape 70b: expected one of 8b, tiny"),
        (AcceleratorBench, ["--dtype", "int4"], "--dtype int4: expected one of float32, bfloat16, float16"),
        (AcceleratorBench, ["--batches", ""], "--batches : expected whole numbers above 0"),
        (AcceleratorBench, ["--acceptance", ""], "--acceptance : expected rates"),
        (AcceleratorBench, ["--acceptance", "2"], "--acceptance 2: expected probabilities from 0 to 1"),
    ],
)
def test_mistakes_are_named(
    kind: type[object], arguments: list[str], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        parse(kind, arguments, "bench")
    assert says in capsys.readouterr().err


def test_an_unknown_benchmark_is_named() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "paceline.bench", "everything"], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 2
    assert (
        "expected one of engine, prefill, decode, overlap, drafters, rag, lookup, grammar, serve, accelerator, hostile"
        in done.stderr
    )
