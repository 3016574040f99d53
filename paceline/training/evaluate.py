"""How good a pair is: held-out loss of both, and how often the draft guesses what the target will choose."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch.nn import functional as F
from transformers import LlamaForCausalLM

from paceline.training.corpus import Corpus
from paceline.training.pair import hidden_logits

WINDOW = 512
KAPPAS = tuple(float(value) for value in np.arange(0.2, 2.05, 0.1))


@dataclass(frozen=True)
class PairReport:
    """Loss in nats per token on held-out text. ``agreement`` is the share of positions where the draft's best guess is
    the target's choice, under shared noise at that temperature (0: both argmax); ``kappa`` makes the draft's estimates
    of being right the likeliest."""

    target_loss: float
    draft_loss: float
    positions: int
    agreement: dict[float, float]
    kappa: dict[float, float]


@torch.inference_mode()
def evaluate_pair(
    target: LlamaForCausalLM, draft: LlamaForCausalLM, corpus: Corpus, max_windows: int = 200
) -> PairReport:
    """Runs both models over consecutive held-out windows of 512 tokens."""
    count = min(max_windows, len(corpus.held_out) // WINDOW)
    windows = torch.from_numpy(corpus.held_out[: count * WINDOW].astype(np.int64)).view(count, WINDOW)
    temperatures, generator = (0.0, 0.8, 1.0), torch.Generator().manual_seed(0)
    losses, agreed = np.zeros(2), dict.fromkeys(temperatures, 0)
    likelihood = {temperature: np.zeros(len(KAPPAS)) for temperature in temperatures}
    for chunk in torch.split(windows, 4):
        tokens = chunk.to(target.device)
        target_logits, draft_logits = (
            hidden_logits(model, tokens)[:, :-1].float().flatten(0, 1) for model in (target, draft)
        )
        labels = tokens[:, 1:].flatten()
        losses += [float(F.cross_entropy(item, labels, reduction="sum")) for item in (target_logits, draft_logits)]
        noise = -torch.log(-torch.log(torch.rand(target_logits.shape, generator=generator).clamp(1e-7, 1 - 1e-7)))
        for temperature in temperatures:
            choice, scores = _coupled(target_logits, draft_logits, noise.to(target.device), temperature)
            agreed[temperature] += int((scores.argmax(-1) == choice).sum())
            nll = [float(F.cross_entropy(scores / kappa, choice, reduction="sum")) for kappa in KAPPAS]
            likelihood[temperature] -= nll
    positions = count * (WINDOW - 1)
    return PairReport(
        target_loss=float(losses[0] / positions),
        draft_loss=float(losses[1] / positions),
        positions=positions,
        agreement={temperature: round(number / positions, 4) for temperature, number in agreed.items()},
        kappa={temperature: round(KAPPAS[int(sums.argmax())], 2) for temperature, sums in likelihood.items()},
    )


def _coupled(
    target_logits: torch.Tensor, draft_logits: torch.Tensor, noise: torch.Tensor, temperature: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """The target's choice and the draft's scores under the same noise."""
    if temperature == 0:
        return target_logits.argmax(-1), draft_logits
    return (target_logits / temperature + noise).argmax(-1), draft_logits / temperature + noise
