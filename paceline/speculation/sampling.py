"""The law of the next token: warp the logits, add the shared noise, take the largest."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from paceline.speculation.fields import require
from paceline.speculation.grammar import Grammar
from paceline.speculation.largest import largest
from paceline.speculation.noise import Floats, NoiseCache

Logits = npt.NDArray[np.float32]
MAX_STOP_TOKENS = MAX_BIASES = 1024
MAX_LOGPROBS = 20
IDS = 1 << 32
"""Token ids, and numbers of tokens, lie below: more than that has no place in a message."""


@dataclass(frozen=True)
class SamplingParameters:
    """What a client may ask of the next token. ``max_tokens`` None: as many as the context allows.

    ``logit_bias`` are pairs of token and what is added to its logit; ``logprobs`` None: none, else how many runners-up.
    """

    max_tokens: int | None = None
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0
    stop_token_ids: tuple[int, ...] = ()
    ignore_eos: bool = False
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    repetition_penalty: float = 1.0
    logit_bias: tuple[tuple[int, float], ...] = ()
    min_tokens: int = 0
    logprobs: int | None = None
    grammar: Grammar | None = None

    def __post_init__(self) -> None:
        most = self.max_tokens
        require(most is None or 1 <= most < IDS, "max_tokens", most, f"1 to {IDS - 1}")
        usable = self.temperature == 0 or 1e-4 <= self.temperature <= 100  # not for NaN either
        require(usable, "temperature", self.temperature, "0 (greedy) or a number from 0.0001 to 100")
        require(0 < self.top_p <= 1, "top_p", self.top_p, "a number above 0 and up to 1 (off)")
        require(0 <= self.top_k < IDS, "top_k", self.top_k, f"0 (off) to {IDS - 1}")
        require(0 <= self.min_p <= 1, "min_p", self.min_p, "a number from 0 (off) to 1")
        stops = len(self.stop_token_ids)
        require(stops <= MAX_STOP_TOKENS, "stop_token_ids", f"{stops} ids", f"at most {MAX_STOP_TOKENS}")
        for token_id in self.stop_token_ids:
            require(0 <= token_id < IDS, "stop_token_ids", token_id, f"ids from 0 to {IDS - 1}")
        for field in ("presence_penalty", "frequency_penalty"):
            require(-2 <= getattr(self, field) <= 2, field, getattr(self, field), "a number from -2 to 2")
        penalty = self.repetition_penalty
        require(0.01 <= penalty <= 100, "repetition_penalty", penalty, "a number from 0.01 to 100; 1 is off")
        self._check_biases()
        within = 0 <= self.min_tokens < IDS and (most is None or self.min_tokens <= most)
        require(within, "min_tokens", self.min_tokens, "0 or more, up to max_tokens")
        asked = self.logprobs
        require(asked is None or 0 <= asked <= MAX_LOGPROBS, "logprobs", asked, f"0 to {MAX_LOGPROBS}")

    def _check_biases(self) -> None:
        count = len(self.logit_bias)
        require(count <= MAX_BIASES, "logit_bias", f"{count} tokens", f"at most {MAX_BIASES}")
        require(len(dict(self.logit_bias)) == count, "logit_bias", f"{count} tokens", "each token once")
        for token_id, bias in self.logit_bias:
            fits = 0 <= token_id < IDS and -100 <= bias <= 100
            require(fits, "logit_bias", (token_id, bias), "a token and -100 to 100")

    @property
    def greedy(self) -> bool:
        return self.temperature == 0

    @property
    def penalizes(self) -> bool:
        """Whether a token's logit depends on which tokens came before."""
        return self.presence_penalty != 0 or self.frequency_penalty != 0 or self.repetition_penalty != 1

    @property
    def truncates(self) -> bool:
        return self.top_k > 0 or self.top_p < 1 or self.min_p > 0


def warp(logits: Logits | Floats, parameters: SamplingParameters) -> Floats:
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
    return draw(logits, parameters, noise, position)


def draw(logits: Logits | Floats, parameters: SamplingParameters, noise: NoiseCache, position: int) -> int:
    """As ``choose``, of logits that are known to be numbers; minus infinity is never chosen beside others."""
    if parameters.greedy:
        return int(logits.argmax())
    scores = warp(logits[None], parameters)[0]
    scores += noise.vector(position)
    return int(scores.argmax())


def best_tokens(logits: npt.NDArray[np.float32], count: int) -> tuple[tuple[int, ...], ...]:
    """The ``count`` tokens with the largest logits of each row of ``[rows, vocabulary]``, best first."""
    return tuple(map(tuple, largest(logits, count).tolist()))
