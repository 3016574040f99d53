"""Who asks for what, and when: settled by the seed, before anybody answers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from paceline.experiments.results import Latency
from paceline.experiments.simulation.acceptance import Text
from paceline.experiments.specification import SloSpec, WorkloadSpec
from paceline.speculation.noise import mix64, noise_hash, noise_key, uniform
from paceline.synthetic import FIRST_TOKEN, TOKENS

_PROMPT, _OUTPUT, _GAP, _KEY = range(4)
_MOST = 8.0
"""Lengths are at most so many times their mean, and at least a token."""
HEADROOM = 80
"""Positions past an answer's end that drafts may reach."""


@dataclass(frozen=True)
class Request:
    """One of them. ``at``: seconds after the start; in a closed loop when a session is free."""

    index: int
    at: float
    prompt_tokens: int
    output_tokens: int
    key: int
    """Its noise key, of this prompt and the experiment's seed: where services are asked for real they have the same."""
    prompt_key: int = 0

    def prompt(self) -> tuple[int, ...]:
        """Tokens at random: no two prompts begin alike."""
        return _prompt(self.prompt_key, self.prompt_tokens)

    def text(self) -> Text:
        """Its answer, made anew each time it is asked for: thousands of them are not to be held."""
        return Text(self.key, self.prompt_tokens + self.output_tokens + HEADROOM)


@dataclass
class Served:
    """What became of a request, in seconds."""

    request: Request
    arrived: float
    first: float = math.inf
    """When its first token came."""
    last: float = math.inf
    tokens: int = 0
    steps: int = 0
    """Of decoding, after the first token."""

    @property
    def ttft_ms(self) -> float:
        return 1e3 * (self.first - self.arrived)

    @property
    def tpot_ms(self) -> float:
        """Per token after the first; of an answer of one token 0."""
        return 1e3 * (self.last - self.first) / (self.tokens - 1) if self.tokens > 1 else 0.0

    def within(self, slo: SloSpec) -> bool:
        return self.ttft_ms <= slo.ttft_ms and self.tpot_ms <= slo.tpot_ms


def requests(workload: WorkloadSpec, seed: int) -> list[Request]:
    """All of them; what one is does not depend on how many there are."""
    count, key = workload.requests, mix64(seed)
    prompts = _lengths(workload.prompt_tokens, workload.lengths, key, _PROMPT, count)
    outputs = _lengths(workload.output_tokens, workload.lengths, key, _OUTPUT, count)
    arrivals = np.zeros(count)
    if workload.requests_per_second > 0:
        arrivals = np.cumsum(-np.log(_draws(key, _GAP, count))) / workload.requests_per_second
    prompt_keys = noise_hash(key, _KEY, np.arange(count, dtype=np.uint64)).tolist()
    keys = [noise_key(seed, 0, _prompt(own, length)) for own, length in zip(prompt_keys, prompts, strict=True)]
    rows = zip(arrivals.tolist(), prompts, outputs, keys, prompt_keys, strict=True)
    return [Request(index, *row) for index, row in enumerate(rows)]


def _prompt(key: int, length: int) -> tuple[int, ...]:
    places = np.arange(length, dtype=np.uint64)
    return tuple((FIRST_TOKEN + noise_hash(key, _PROMPT, places) % np.uint64(TOKENS)).tolist())


def latency(values: Sequence[float]) -> Latency:
    """Nearest rank."""
    ordered = sorted(values)
    p50, p90, p99 = (ordered[max(0, math.ceil(share * len(ordered)) - 1)] for share in (0.5, 0.9, 0.99))
    return Latency(p50, p90, p99)


def _lengths(mean: int, kind: str, key: int, what: int, count: int) -> list[int]:
    if kind == "fixed":
        return [mean] * count
    drawn = np.minimum(-np.log(_draws(key, what, count)), _MOST) * mean
    return np.maximum(1, np.rint(drawn)).astype(int).tolist()  # type: ignore[no-any-return]


def _draws(key: int, what: int, count: int) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    return uniform(noise_hash(key, what, np.arange(count, dtype=np.uint64)))
