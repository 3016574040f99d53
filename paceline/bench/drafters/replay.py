"""A target that says a given text: real text, though no model here is large enough to have written it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from paceline.bench.drafters.texts import Task
from paceline.engine.batch import Rows
from paceline.engine.blocks import PrefixKeys
from paceline.engine.cache import Sequence as CacheSequence
from paceline.engine.runner import Logits, ModelRunner

CERTAIN = 1e4
"""Logit of the next token of the text; the others have 0, so that neither temperature nor noise changes it."""


class ReplayTarget:
    """A runner whose logits are those of the texts. A model does the bookkeeping of rows; what it says is not heard."""

    def __init__(self, runner: ModelRunner, tasks: Sequence[Task]) -> None:
        self._runner, self._texts = runner, {task.prompt: (*task.prompt, *task.continuation) for task in tasks}
        self._said: dict[int, tuple[int, ...]] = {}
        self.config, self.cache = runner.config, runner.cache

    def open(self, max_tail: int, token_ids: Sequence[int] = (), keys: PrefixKeys | None = None) -> CacheSequence:
        """The sequence of a session that begins with one of the prompts."""
        sequence = self._runner.open(max_tail, token_ids, keys)
        start = tuple(token_ids)
        self._said[id(sequence)] = next(text for prompt, text in self._texts.items() if start[: len(prompt)] == prompt)
        return sequence

    def forward(self, groups: Sequence[Rows]) -> list[Logits]:
        """As a runner's: after a row at position p the text's token at p + 1 is certain."""
        computed = [group.sequence.num_computed_tokens for group in groups]
        self._runner.forward(groups)
        return [self._logits(group, base) for group, base in zip(groups, computed, strict=True)]

    def _logits(self, group: Rows, base: int) -> Logits:
        text, count = self._said[id(group.sequence)], len(group.token_ids)
        if group.parents is None:
            positions = np.array([base + count - 1])
        else:
            first = group.sequence.tail - count
            positions = base + group.sequence.depths[first : first + count]
        logits = np.zeros((len(positions), self.config.vocabulary_size), np.float32)
        following = [text[min(position + 1, len(text) - 1)] for position in positions]
        logits[np.arange(len(positions)), following] = CERTAIN
        return logits
