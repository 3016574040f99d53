"""The law of the next token: warp the logits, add the shared noise, take the largest."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from paceline.speculation.fields import require
from paceline.speculation.largest import largest
from paceline.speculation.noise import Floats, NoiseCache

Logits = npt.NDArray[np.float32]
MAX_STOP_TOKENS = 1024


@dataclass(frozen=True)
class SamplingParameters:
    """What a client may ask of the next token. ``max_tokens`` None: as many as the context allows."""

    max_tokens: int | None = None
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0
    stop_token_ids: tuple[int, ...] = ()
    ignore_eos: bool = False

    def __post_init__(self) -> None:
        require(self.max_tokens is None or self.max_tokens >= 1, "max_tokens", self.max_tokens, "at least 1")
        usable = self.temperature == 0 or 1e-4 <= self.temperature <= 100  # not for NaN either
        require(usable, "temperature", self.temperature, "0 (greedy) or a number from 0.0001 to 100")
        require(0 < self.top_p <= 1, "top_p", self.top_p, "a number above 0 and up to 1 (off)")
        require(self.top_k >= 0, "top_k", self.top_k, "0 (off) or more")
        require(0 <= self.min_p <= 1, "min_p", self.min_p, "a number from 0 (off) to 1")
        stops = len(self.stop_token_ids)
        require(stops <= MAX_STOP_TOKENS, "stop_token_ids", f"{stops} ids", f"at most {MAX_STOP_TOKENS}")

    @property
    def greedy(self) -> bool:
        return self.temperature == 0

    @property
    def truncates(self) -> bool:
        return self.top_k > 0 or self.top_p < 1 or self.min_p > 0


def warp(logits: Logits, parameters: SamplingParameters) -> Floats:
    """Logits after temperature and truncation; float64, minus infinity where a token is cut off.

    Temperature, top-k, top-p, min-p in this order. Ties go to the lowest id, as in a stable sort. Not for greedy.
    """
    scores = logits.astype(np.float64) / parameters.temperature
    if not parameters.truncates:
        return scores
    for row in scores:
        row[~_survivors(row, parameters)] = -np.inf
    return scores


def _survivors(scores: Floats, parameters: SamplingParameters) -> npt.NDArray[np.bool_]:
    order = np.argsort(-scores, kind="stable")
    if 0 < parameters.top_k < len(order):
        order = order[: parameters.top_k]
    probabilities = np.exp(scores[order] - scores[order[0]])
    probabilities /= probabilities.sum()
    keep = len(order)
    if parameters.top_p < 1:
        keep = min(keep, int(np.searchsorted(np.cumsum(probabilities), parameters.top_p)) + 1)
    if parameters.min_p > 0:
        keep = min(keep, int(np.count_nonzero(probabilities >= parameters.min_p * probabilities[0])))
    mask = np.zeros(len(scores), bool)
    mask[order[:keep]] = True
    return mask


class NotANumber(ArithmeticError):
    """Logits from which nothing can be chosen."""


def check_logits(logits: Logits) -> None:
    """Raises ``NotANumber`` for logits ``[vocabulary]`` of which one is NaN, or none is finite."""
    largest = float(logits.max())  # NaN if any of them is
    if not math.isfinite(largest):
        raise NotANumber("are not numbers" if math.isnan(largest) else "are not finite")


def choose(logits: Logits, parameters: SamplingParameters, noise: NoiseCache, position: int) -> int:
    """The target's choice for ``position`` given its logits ``[vocabulary]`` there: an exact draw.

    It is a function of the logits, the noise key and the position alone (DESIGN §1.1). Raises ``NotANumber``.
    """
    check_logits(logits)
    if parameters.greedy:
        return int(logits.argmax())
    scores = warp(logits[None], parameters)[0]
    scores += noise.vector(position)
    return int(scores.argmax())


def best_tokens(logits: npt.NDArray[np.float32], count: int) -> tuple[tuple[int, ...], ...]:
    """The ``count`` tokens with the largest logits of each row of ``[rows, vocabulary]``, best first."""
    return tuple(map(tuple, largest(logits, count).tolist()))
