"""Drafts with a small language model that reads an excerpt of a long text: its end, and passages retrieved for it.

RAPID (Chen et al. 2025, arXiv 2502.20330): what bears on the next words makes a short context, which is read quickly
and drafts as well as a long one. There the drafter's opinion is mixed into the target's; here its tree is a hint like
any other, and the target, which reads everything, says what it would have said alone.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from drafter_service.drafters.model import ModelDrafter
from drafter_service.session import DraftSession
from paceline.engine.runner import ModelRunner
from paceline.speculation.fields import require
from paceline.speculation.merge import MAX_DEPTH

HEAD = 16
"""Tokens at the text's beginning that stay: models lean on them (Xiao et al. 2023, attention sinks). One block."""
CHUNK, STRIDE = 64, 32
"""Tokens of a passage, and from one's beginning to the next one's: what one cuts off the next one holds."""
QUERY = 64
"""Last tokens of the text, for which passages are looked up."""

SATURATION, LENGTH_WEIGHT = 1.5, 0.75
"""BM25's k1 and b at their usual values (Robertson and Zaragoza 2009)."""


def rank_passages(tokens: Sequence[int], end: int) -> list[tuple[int, int]]:
    """Passages of the text before ``end`` that share tokens with its last ones, as (from, to), best first (BM25)."""
    starts = np.arange(HEAD, end, STRIDE)
    if not len(starts):
        return []
    query, text = np.unique(np.asarray(tokens[-QUERY:])), np.asarray(tokens[HEAD:end])
    word = np.minimum(np.searchsorted(query, text), len(query) - 1)
    found = np.flatnonzero(query[word] == text)
    strips = np.zeros((len(starts) + 1, len(query)))  # a passage is two strips; behind the last one there is nothing
    np.add.at(strips, (found // STRIDE, word[found]), 1.0)
    counts, lengths = strips[:-1] + strips[1:], np.minimum(starts + CHUNK, end) - starts
    holding = (counts > 0).sum(0)
    rarity = np.log1p((len(starts) - holding + 0.5) / (holding + 0.5))
    saturated = SATURATION * (1 - LENGTH_WEIGHT + LENGTH_WEIGHT * lengths / lengths.mean())[:, None]
    scores = (counts / (counts + saturated)) @ rarity
    order = np.argsort(-scores, kind="stable")
    return [(int(starts[i]), int(starts[i] + lengths[i])) for i in order[: np.count_nonzero(scores)]]


def excerpt(tokens: Sequence[int], limit: int, *, retrieval: bool = True) -> list[int]:
    """The text, if it has at most ``limit`` tokens; else three quarters of ``limit``, so that it can grow again::

        | head | passages, in the order of the text | window: the text's last tokens |

    The window is a quarter of ``limit``, and what the passages leave over.
    """
    if len(tokens) <= limit:
        return list(tokens)
    budget, window = limit * 3 // 4, len(tokens) - limit // 4
    kept = np.zeros(len(tokens), bool)
    kept[:HEAD] = kept[window:] = True
    for start, stop in rank_passages(tokens, window) if retrieval else ():
        if kept.sum() + (~kept[start:stop]).sum() > budget:
            break
        kept[start:stop] = True
    kept[window - (budget - kept.sum()) : window] = True
    return list(itertools.compress(tokens, kept))


@dataclass
class _Excerpt:
    """What the model reads of a session's text, of which ``length`` tokens are known here."""

    tokens: list[int]
    length: int


class RagDrafter(ModelDrafter):
    """A model drafter that reads at most ``draft_context`` tokens, or fewer where its model takes no more.

    As the text goes on the excerpt grows with it; when it is full passages are retrieved anew, for what is being
    written by then. Only rotary positions are those of the excerpt: nodes, and with them noise, keep the text's.
    """

    name = "rag"

    def __init__(self, runner: ModelRunner, draft_context: int = 512, *, retrieval: bool = True) -> None:
        """Without ``retrieval`` it reads the text's last tokens only."""
        super().__init__(runner)
        self._limit = min(draft_context, runner.config.max_context - MAX_DEPTH)
        require(self._limit >= CHUNK, "draft_context", self._limit, f"at least {CHUNK}, beside a tree")
        self._retrieval = retrieval
        self._excerpts: dict[str, _Excerpt] = {}

    def context(self, session: DraftSession) -> list[int]:
        return self._excerpts[session.session_id].tokens

    def open(self, session: DraftSession) -> None:
        self._cut(session)
        super().open(session)

    def close(self, session: DraftSession) -> None:
        super().close(session)
        self._excerpts.pop(session.session_id, None)

    def rewind(self, session: DraftSession, length: int) -> None:
        self.close(session)
        self.open(session)

    def advance(self, session: DraftSession) -> None:
        read = self._excerpts[session.session_id]
        read.tokens += session.tokens[read.length :]
        read.length = len(session.tokens)
        super().advance(session)
        if len(read.tokens) > self._limit:
            self._cut(session)
            self.reread(session)

    def _cut(self, session: DraftSession) -> None:
        tokens = excerpt(session.tokens, self._limit, retrieval=self._retrieval)
        self._excerpts[session.session_id] = _Excerpt(tokens, len(session.tokens))
