"""``python -m paceline.training STAGE --work DIR``: see paceline/embedded/README.md."""

from __future__ import annotations

import argparse
import logging
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from tokenizers import Tokenizer
from transformers import LlamaForCausalLM

from paceline.logs import get_logger
from paceline.training import corpus as text
from paceline.training.evaluate import evaluate_pair
from paceline.training.loop import Trainer
from paceline.training.pair import (
    LONG,
    SHORT,
    distillation_loss,
    draft_config,
    export,
    new_model,
    pretraining_loss,
    sample_windows,
    target_config,
)
from paceline.training.tokenizer import save_tokenizer, train_tokenizer

logger = get_logger("paceline.training")
GENERATED_SHARE = 0.5
PROMPT_LENGTH, GENERATED_LENGTH, GENERATED_ROWS = 32, 256, 64


class Work:
    """The working directory of a training run."""

    def __init__(self, directory: Path, device: str) -> None:
        self.directory, self.device = directory, device
        directory.mkdir(parents=True, exist_ok=True)

    def corpus(self) -> text.Corpus:
        tokenizer = Tokenizer.from_file(str(self.directory / "tokenizer.json"))
        return text.Corpus.build(tokenizer, self.directory / "corpus.npz")

    def target(self) -> LlamaForCausalLM:
        model = new_model(target_config(), self.device)
        model.load_state_dict(torch.load(self.directory / "target.pt", weights_only=True)["model"])
        model.train(mode=False)
        return model

    def draft(self) -> LlamaForCausalLM:
        model = new_model(draft_config(), self.device)
        model.load_state_dict(torch.load(self.directory / "draft.pt", weights_only=True)["model"])
        model.train(mode=False)
        return model

    def trainer(self, model: LlamaForCausalLM, name: str) -> Trainer:
        return Trainer(model, matrix_lr=4e-3, other_lr=4e-3, checkpoint=self.directory / f"{name}.pt")


def make_tokenizer(work: Work, _minutes: float) -> None:
    training = [d.text for d in text.standard_library() if not d.held_out]
    save_tokenizer(train_tokenizer(training), work.directory)


def train_target(work: Work, minutes: float) -> None:
    corpus, model = work.corpus(), new_model(target_config(), work.device)
    logger.info("target", million_parameters=count(model), million_tokens=len(corpus.train) / 1e6)
    work.trainer(model, "target").run(pretraining_loss(model, corpus), minutes * 60)


def generate_text(work: Work, minutes: float) -> None:
    """Adds windows of target-generated text until the time is spent."""
    corpus, target, rng = work.corpus(), work.target(), np.random.default_rng(1)
    path, windows, started = work.directory / "generated.npy", [], time.monotonic()
    while time.monotonic() - started < minutes * 60:
        prompts = corpus.batch(rng, GENERATED_ROWS, PROMPT_LENGTH)
        temperature = float(rng.choice([0.5, 0.8, 1.0]))
        windows.append(sample_windows(target, prompts, GENERATED_LENGTH, temperature=temperature))
        np.save(path, np.concatenate(windows))
    logger.info("generated", million_tokens=np.load(path).size / 1e6)


def train_draft(work: Work, minutes: float) -> None:
    corpus, target = work.corpus(), work.target()
    generated = np.load(work.directory / "generated.npy")
    model = new_model(draft_config(), work.device)

    def draw(rng: np.random.Generator, fraction: float) -> torch.Tensor:
        if fraction <= 0.9 and rng.random() < GENERATED_SHARE:
            return torch.from_numpy(generated[rng.integers(0, len(generated), SHORT[0])].astype(np.int64))
        return torch.from_numpy(corpus.batch(rng, *(LONG if fraction > 0.9 else SHORT)))

    work.trainer(model, "draft").run(distillation_loss(model, target, draw), minutes * 60)


def evaluate(work: Work, _minutes: float) -> None:
    report = evaluate_pair(work.target(), work.draft(), work.corpus())
    logger.info("evaluated", report=vars(report))


def export_pair(work: Work, _minutes: float) -> None:
    for name, model in (("target", work.target()), ("draft", work.draft())):
        export(model, work.directory / "embedded" / name)
        save_tokenizer(Tokenizer.from_file(str(work.directory / "tokenizer.json")), work.directory / "embedded" / name)


def count(model: LlamaForCausalLM) -> float:
    """Parameters in millions, tied ones once."""
    return sum(p.numel() for p in model.parameters()) / 1e6


STAGES: dict[str, Callable[[Work, float], None]] = {
    "tokenizer": make_tokenizer,
    "target": train_target,
    "generate": generate_text,
    "draft": train_draft,
    "evaluate": evaluate,
    "export": export_pair,
}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m paceline.training", description=__doc__)
    parser.add_argument("stage", choices=list(STAGES))
    parser.add_argument("--work", type=Path, required=True, help="directory for checkpoints; a stage resumes from it")
    parser.add_argument(
        "--minutes", type=float, default=75.0, help="training time of this stage, earlier runs counted in"
    )
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    torch.set_num_threads(arguments.threads)
    STAGES[arguments.stage](Work(arguments.work, arguments.device), arguments.minutes)


if __name__ == "__main__":
    main()
