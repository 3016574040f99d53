"""How a step's rows are shared out: plain functions, run alike by services and simulator."""

from __future__ import annotations

from collections.abc import Sequence

OLDEST_SHARE = 4
"""One in so many rows of prefill belongs to the prompt that has waited longest."""


def share_prefill(remaining: Sequence[int], budget: int) -> list[int]:
    """Prompt tokens to compute in a step for each prompt, oldest first; ``remaining`` tokens are left of each.

    Shortest first, so that a short prompt is not held up by a long one; a part is reserved for the oldest, so that a
    long prompt is not held up for ever by short ones.
    """
    shares = [0] * len(remaining)
    if not remaining:
        return shares
    shares[0] = min(remaining[0], max(1, budget // OLDEST_SHARE))
    left = budget - shares[0]
    for index in sorted(range(len(remaining)), key=lambda i: remaining[i] - shares[i]):
        more = min(remaining[index] - shares[index], left)
        shares[index] += more
        left -= more
    return shares
