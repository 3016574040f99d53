"""What drafting ahead is worth where a formula says it: independent acceptance, fixed step times.

Symbols, the same throughout:

- ``alpha``: the chance that a drafted token is the target's, given that the one before it was;
- ``window`` (gamma, K): tokens drafted for a round;
- ``target_ms`` (t_T), ``draft_ms`` (t_d): one step of the target, and of the drafter;
- ``round_trip_ms``: between them and back, calls included;
- a *round* is one step of the target and what it waits for; tokens of a round count the target's own next token.
"""

from __future__ import annotations

import math
from collections.abc import Sequence


def chain_tokens(alpha: float, window: float) -> float:
    """Tokens of a round of a chain that is drafted, then verified (Leviathan et al. 2023, eq. 1).

    ``E = (1 - alpha^(gamma+1)) / (1 - alpha)``: the accepted ones and the next.
    """
    return window + 1 if alpha == 1 else (1 - alpha ** (window + 1)) / (1 - alpha)


def lockstep_speedup(alpha: float, window: int, draft_ms: float, target_ms: float, round_trip_ms: float = 0.0) -> float:
    """Of drafting and verifying in turn over the target alone: ``E t_T / (t_T + gamma t_d + RTT)``."""
    return chain_tokens(alpha, window) * target_ms / (target_ms + window * draft_ms + round_trip_ms)


def remote_break_even_ms(alpha: float, window: int, draft_ms: float, target_ms: float) -> float:
    """The round trip at which drafting elsewhere, in turn, is as fast as the target alone (2606.25091, Prop. 2).

    ``RTT = (E - 1) t_T - gamma t_d``; below 0 there is none, it is slower at any distance.
    """
    return (chain_tokens(alpha, window) - 1) * target_ms - window * draft_ms


def pearl_tokens(alpha: float, window: int) -> float:
    """Tokens of a round of PEARL's chain (Liu et al. 2025), which drafts the next window while one is verified.

    From one rejection to the next come ``1 / (1 - alpha)`` tokens, the replacement among them, in
    ``1 + alpha / (1 - alpha^gamma)`` rounds: first one that verifies only the first token while the window is drafted,
    and, if that is accepted, such that verify a window, until one fails. Their ratio, written so that alpha may be 1.
    """
    return chain_tokens(alpha, window - 1) / (1 - alpha**window + alpha)


def pearl_rows(alpha: float, window: int) -> float:
    """Rows that the target has for a session in a mean round of PEARL's: 1 after a rejection, else ``window``."""
    failing = 1 - alpha**window
    return (failing + alpha * window) / (failing + alpha)


def pearl_limit(alpha: float) -> float:
    """Of ``pearl_tokens`` for endless windows, ``1 / (1 - alpha^2)``: each rejection costs a round."""
    return 1 / (1 - alpha**2)


def pearl_round_ms(window: int, draft_ms: float, verify_ms: float, round_trip_ms: float = 0.0) -> float:
    """Whoever takes longer: ``max(gamma t_d, t_V + RTT)``."""
    return max(window * draft_ms, verify_ms + round_trip_ms)


def pearl_best_window(draft_ms: float, target_ms: float, round_trip_ms: float = 0.0) -> int:
    """As many tokens as are drafted during a step, at least one."""
    return max(1, round((target_ms + round_trip_ms) / draft_ms))


def outcome_cache_speedup(
    hit: float, hit_tokens: float, miss_tokens: float, draft_ratio: float, fallback_ratio: float
) -> float:
    """Of a drafter that prepares for the likely verdicts over the target alone (SSD, 2603.03251, Thm. 7).

    ``hit`` (h) is the chance that the verdict was prepared for; then a round lasts ``max(1, T_p)`` steps, T_p the
    ``draft_ratio``: drafting time over the target's step; else ``1 + T_b``, T_b the ``fallback_ratio`` of drafting
    anew. ``S = (h E_hit + (1 - h) E_miss) / (h max(1, T_p) + (1 - h) (1 + T_b))``.
    """
    tokens = hit * hit_tokens + (1 - hit) * miss_tokens
    return tokens / (hit * max(1.0, draft_ratio) + (1 - hit) * (1 + fallback_ratio))


def outcome_cache_bounds(hit: float, draft_ratio: float, tokens_ratio: float = 1.0) -> tuple[float, float]:
    """Between which its speed over drafting in turn lies (SSD, Cor. 9).

    ``draft_ratio`` (T_SD) is the drafting time of a round in turn over the target's step, ``tokens_ratio`` is
    ``E_hit / E_SD``: ``(1 + T_SD) / (1 + T_SD (1 - h))`` and ``1 + T_SD``, times that.
    """
    upper = (1 + draft_ratio) * tokens_ratio
    return upper / (1 + draft_ratio * (1 - hit)), upper


def tree_value(parents: Sequence[int], chances: Sequence[float]) -> float:
    """Tokens of a round that verifies a tree: 1 and the chances of all nodes (Sequoia, Chen et al. 2024, Prop. 3.4).

    ``chances[i]`` is the chance that node ``i`` is accepted where its parent is; ``parents[i]`` is the parent's index,
    -1 for the root, which is accepted always. Parents come before children.
    """
    reached: list[float] = []
    for parent, chance in zip(parents, chances, strict=True):
        reached.append(chance * (1.0 if parent < 0 else reached[parent]))
    return 1 + math.fsum(reached)
