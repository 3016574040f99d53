"""Held-out loss of both models, how often they agree, and a few completions to read."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch.nn import functional as F
from transformers import LlamaForCausalLM

from paceline.training.corpus import Corpus
from paceline.training.pair import hidden_logits

WINDOW = 512


@dataclass(frozen=True)
class PairReport:
    """Loss in nats per token; agreement is the share of held-out positions where both models' argmax is the same."""

    target_loss: float
    draft_loss: float
    greedy_agreement: float
    tokens: int


@torch.inference_mode()
def evaluate_pair(
    target: LlamaForCausalLM, draft: LlamaForCausalLM, corpus: Corpus, max_windows: int = 400
) -> PairReport:
    """Runs both models over consecutive held-out windows of 512 tokens."""
    count = min(max_windows, len(corpus.held_out) // WINDOW)
    windows = torch.from_numpy(corpus.held_out[: count * WINDOW].astype(np.int64)).view(count, WINDOW)
    losses, agree = np.zeros(2), 0
    for chunk in torch.split(windows, 8):
        tokens = chunk.to(target.device)
        logits = [hidden_logits(model, tokens)[:, :-1].float() for model in (target, draft)]
        labels = tokens[:, 1:].flatten()
        losses += [float(F.cross_entropy(item.flatten(0, 1), labels, reduction="sum")) for item in logits]
        agree += int((logits[0].argmax(-1) == logits[1].argmax(-1)).sum())
    positions = count * (WINDOW - 1)
    return PairReport(float(losses[0] / positions), float(losses[1] / positions), agree / positions, positions)
