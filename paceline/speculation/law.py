"""The law of a session's next token: everything that stands between the target's logits and its choice.

In this order (DESIGN §5): penalties over the prompt, the text and the row's own path; biases; what must not come yet or
is not allowed here; then temperature, truncation and noise as in ``sampling``.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np
import numpy.typing as npt

from paceline.speculation.noise import Floats, NoiseCache
from paceline.speculation.sampling import Logits, NotANumber, SamplingParameters, check_logits, draw

Allowed = npt.NDArray[np.bool_]
"""``[vocabulary]``: the tokens that a grammar lets come next."""


class TokenCounts:
    """Which tokens a text has, and how often each was emitted after the prompt."""

    def __init__(self, prompt: Sequence[int], vocabulary_size: int) -> None:
        self._emitted = np.zeros(vocabulary_size, np.int32)
        self._known = np.zeros(vocabulary_size, bool)
        self._known[list(prompt)] = True
        self._ids = np.flatnonzero(self._known)

    def emit(self, token_ids: Sequence[int]) -> None:
        self._ids = self._with(token_ids)
        self._known[list(token_ids)] = True
        np.add.at(self._emitted, list(token_ids), 1)

    def after(self, path: Sequence[int]) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.int32]]:
        """The distinct tokens of the text followed by ``path``, and how often each was emitted."""
        ids, path = self._with(path), list(path)
        np.add.at(self._emitted, path, 1)
        counts = self._emitted[ids]
        np.subtract.at(self._emitted, path, 1)
        return ids, counts

    def _with(self, token_ids: Sequence[int]) -> npt.NDArray[np.intp]:
        new = [token_id for token_id in dict.fromkeys(token_ids) if not self._known[token_id]]
        return np.concatenate((self._ids, np.array(new, np.intp))) if new else self._ids


class TokenLaw:
    """Of one session; ``stop`` are the tokens that end its text."""

    def __init__(
        self,
        sampling: SamplingParameters,
        noise: NoiseCache,
        token_ids: Sequence[int],
        prompt_length: int,
        vocabulary_size: int,
        stop: Collection[int],
    ) -> None:
        """``token_ids``: the prompt, then what is committed already."""
        self._sampling, self._noise, self._prompt_length = sampling, noise, prompt_length
        self._stop = np.array(sorted(token_id for token_id in stop if token_id < vocabulary_size), np.intp)
        self._biased = np.array([token_id for token_id, _ in sampling.logit_bias], np.intp)
        self._biases = np.array([bias for _, bias in sampling.logit_bias])
        self._counts: TokenCounts | None = None
        if sampling.penalizes:
            self._counts = TokenCounts(token_ids[:prompt_length], vocabulary_size)
            self._counts.emit(token_ids[prompt_length:])

    @property
    def plain(self) -> bool:
        """Whether logits are taken as they are, whatever the text."""
        return self._counts is None and not len(self._biased) and not self._sampling.min_tokens

    def commit(self, token_ids: Sequence[int]) -> None:
        """Tokens have become part of the text."""
        if self._counts is not None:
            self._counts.emit(token_ids)

    def choose(self, logits: Logits, position: int, path: Sequence[int] = (), allowed: Allowed | None = None) -> int:
        """The choice for ``position``; its row stands at the end of ``path`` below the root. Raises ``NotANumber``."""
        check_logits(logits)
        if self.plain and allowed is None:
            return draw(logits, self._sampling, self._noise, position)
        return draw(self.adjust(logits, position, path, allowed), self._sampling, self._noise, position)

    def adjust(self, logits: Logits, position: int, path: Sequence[int] = (), allowed: Allowed | None = None) -> Floats:
        """Logits ``[vocabulary]`` as they go into temperature and truncation; float64, minus infinity: not allowed."""
        scores = logits.astype(np.float64)
        if self._counts is not None:
            self._penalize(scores, self._counts, path)
        scores[self._biased] += self._biases
        if allowed is not None:
            scores[~allowed] = -np.inf
            if not np.isfinite(scores.max()):
                raise NotANumber("leave no token that the grammar allows")
        if position - self._prompt_length < self._sampling.min_tokens:
            self._forbid_stops(scores)
        return scores

    def _penalize(self, scores: Floats, counts: TokenCounts, path: Sequence[int]) -> None:
        """Repetition over prompt and text (CTRL, Keskar et al. 2019), presence and frequency over the text alone, as
        vLLM and OpenAI have them."""
        ids, emitted = counts.after(path)
        values, repetition = scores[ids], self._sampling.repetition_penalty
        values = np.where(values > 0, values / repetition, values * repetition)
        values -= self._sampling.frequency_penalty * emitted + self._sampling.presence_penalty * (emitted > 0)
        scores[ids] = values

    def _forbid_stops(self, scores: Floats) -> None:
        """Unless a grammar leaves nothing else."""
        kept = scores[self._stop]
        scores[self._stop] = -np.inf
        if not np.isfinite(scores.max()):
            scores[self._stop] = kept
