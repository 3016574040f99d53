"""What is compared: our overlapped trees, three published ways, and the target alone."""

from __future__ import annotations

from collections.abc import Iterator

from paceline.speculation.policy import Mode, Shape, SpeculationParameters

TREE, LOCKSTEP_TREE, LOCKSTEP_CHAIN, CHAIN = "overlapped tree", "lockstep tree", "lockstep chain", "overlapped chain"
BASELINES = (LOCKSTEP_CHAIN, LOCKSTEP_TREE, CHAIN)
"""Ordinary speculative decoding, the same with trees, and PEARL's chain drafted ahead."""


def _chain(mode: Mode, length: int) -> SpeculationParameters:
    return SpeculationParameters(mode, Shape.CHAIN, max_draft_nodes=length, draft_depth=length)


POLICIES: dict[str, tuple[SpeculationParameters, ...]] = {
    LOCKSTEP_CHAIN: tuple(_chain(Mode.LOCKSTEP, length) for length in (2, 3, 4, 6)),
    LOCKSTEP_TREE: tuple(
        SpeculationParameters(Mode.LOCKSTEP, max_draft_nodes=64, draft_depth=depth, draft_width=width)
        for depth, width in ((2, 6), (3, 3), (3, 6), (4, 3), (4, 6), (6, 3))
    ),
    CHAIN: tuple(_chain(Mode.OVERLAPPED, length) for length in (4, 8, 16)),
    TREE: (SpeculationParameters(Mode.OVERLAPPED, max_draft_nodes=64, draft_depth=16, draft_width=6),),
    "off": (SpeculationParameters(Mode.OFF),),
}
"""Each baseline with several lengths, of which every cell takes the best; ours is not tuned."""


def options() -> Iterator[tuple[str, int, SpeculationParameters]]:
    """Policy, length, and what that means."""
    for policy, variants in POLICIES.items():
        for speculation in variants:
            yield policy, speculation.draft_depth, speculation
