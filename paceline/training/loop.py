"""A resumable training loop whose length is a time budget: the schedule follows the clock, not a step count."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn

from paceline.logs import get_logger

logger = get_logger("paceline.training")

SAVE_EVERY_SECONDS = 180.0
WARMUP, COOLDOWN_FROM = 0.01, 0.4

LossFunction = Callable[[np.random.Generator, float], tuple[torch.Tensor, int]]
"""Draws a batch and returns its loss; the second argument is the fraction of the budget spent, the second result the
number of tokens in the batch."""


@dataclass
class Progress:
    """What a checkpoint has to remember beside the weights."""

    trained_seconds: float = 0.0
    steps: int = 0
    tokens: int = 0


class Trainer:
    """Muon for the matrices, AdamW for embeddings and norms (the split that Muon's authors advise)."""

    def __init__(self, model: nn.Module, *, matrix_lr: float, other_lr: float, checkpoint: Path) -> None:
        matrices = [p for n, p in model.named_parameters() if p.ndim == 2 and "embed" not in n]
        others = [p for n, p in model.named_parameters() if p.ndim != 2 or "embed" in n]
        self.model, self.checkpoint, self.progress = model, checkpoint, Progress()
        self.optimizers: list[torch.optim.Optimizer] = [
            torch.optim.Muon(matrices, lr=matrix_lr, weight_decay=0.1, adjust_lr_fn="match_rms_adamw"),
            torch.optim.AdamW(others, lr=other_lr, betas=(0.9, 0.95), weight_decay=0.0),
        ]
        self.base_lrs = (matrix_lr, other_lr)
        if checkpoint.exists():
            self._load()

    def run(self, loss_function: LossFunction, budget_seconds: float) -> Progress:
        """Trains until ``budget_seconds`` of this and earlier runs are spent."""
        rng = np.random.default_rng(self.progress.steps)
        last_save, usual, smooth = time.monotonic(), None, None
        while self.progress.trained_seconds < budget_seconds:
            fraction = self.progress.trained_seconds / budget_seconds
            started = time.monotonic()
            loss, tokens = self._step(loss_function, rng, fraction)
            elapsed = time.monotonic() - started
            usual = elapsed if usual is None else 0.9 * usual + 0.1 * min(elapsed, 5 * usual)
            smooth = loss if smooth is None else 0.98 * smooth + 0.02 * loss
            self.progress.trained_seconds += min(elapsed, 5 * usual)  # a paused process does not age
            self.progress.steps += 1
            self.progress.tokens += tokens
            if self.progress.steps % 50 == 0:
                logger.info("trained", loss=smooth, budget_seconds=budget_seconds, **vars(self.progress))
            if time.monotonic() - last_save > SAVE_EVERY_SECONDS:
                self.save()
                last_save = time.monotonic()
        self.save()
        return self.progress

    def _step(self, loss_function: LossFunction, rng: np.random.Generator, fraction: float) -> tuple[float, int]:
        scale = learning_rate_scale(fraction)
        for optimizer, base in zip(self.optimizers, self.base_lrs, strict=True):
            for group in optimizer.param_groups:
                group["lr"] = base * scale
        loss, tokens = loss_function(rng, fraction)
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        for optimizer in self.optimizers:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        return float(loss.detach()), tokens

    def save(self) -> None:
        """Writes the checkpoint whole, then moves it into place: a kill leaves the last one readable."""
        partial = self.checkpoint.with_suffix(".partial")
        states = [optimizer.state_dict() for optimizer in self.optimizers]
        torch.save({"model": self.model.state_dict(), "optimizers": states, **vars(self.progress)}, partial)
        partial.replace(self.checkpoint)

    def _load(self) -> None:
        state = torch.load(self.checkpoint, weights_only=True)
        self.model.load_state_dict(state["model"])
        for optimizer, optimizer_state in zip(self.optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(optimizer_state)
        self.progress = Progress(state["trained_seconds"], state["steps"], state["tokens"])
        logger.info("resumed", steps=self.progress.steps)


def learning_rate_scale(fraction: float) -> float:
    """Warm up, hold, then fall in a straight line to 2 % of the peak."""
    if fraction < WARMUP:
        return max(fraction, 1e-3) / WARMUP
    if fraction < COOLDOWN_FROM:
        return 1.0
    return max(0.02, (1.0 - fraction) / (1.0 - COOLDOWN_FROM))
