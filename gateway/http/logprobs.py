"""Log-probabilities in OpenAI's two forms."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from gateway.http.vocabulary import Vocabulary
from paceline.speculation.logprobs import TokenLogprobs


def chat_logprobs(
    vocabulary: Vocabulary, token_ids: Sequence[int], logprobs: Sequence[TokenLogprobs]
) -> dict[str, Any] | None:
    """``{"content": [{"token", "logprob", "bytes", "top_logprobs"}]}``; None if none were asked for."""
    if not logprobs:
        return None

    def entry(token_id: int, logprob: float) -> dict[str, Any]:
        return {
            "token": vocabulary.text(token_id),
            "logprob": logprob,
            "bytes": list(vocabulary.content(token_id)),
        }

    rows = zip(token_ids, logprobs, strict=True)
    content = [
        {**entry(token_id, row.logprob), "top_logprobs": [entry(*runner_up) for runner_up in row.top]}
        for token_id, row in rows
    ]
    return {"content": content, "refusal": None}


def text_logprobs(
    vocabulary: Vocabulary,
    token_ids: Sequence[int],
    logprobs: Sequence[TokenLogprobs],
    piece_lengths: Sequence[int],
    offset: int,
) -> dict[str, Any] | None:
    """Four columns; ``text_offset`` are characters into the answer, of which ``offset`` came before these tokens."""
    if not logprobs:
        return None
    offsets = []
    for length in piece_lengths:
        offsets.append(offset)
        offset += length
    return {
        "tokens": [vocabulary.text(token_id) for token_id in token_ids],
        "token_logprobs": [row.logprob for row in logprobs],
        "top_logprobs": [
            {vocabulary.text(token_id): logprob for token_id, logprob in ((chosen, row.logprob), *row.top)}
            for chosen, row in zip(token_ids, logprobs, strict=True)
        ],
        "text_offset": offsets,
    }
