"""What a kind of drafter has to do."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from drafter_service.session import DraftSession
from paceline.speculation.accept import NodeCandidates


class DraftKind(Protocol):
    """Grows trees for sessions. All calls come from the drafter's one growing thread."""

    name: str
    """As in the topology and in ``Describe``."""
    wants_candidates: bool
    """Whether it learns from the target's best tokens; a verifier tells them on request."""

    def open(self, session: DraftSession) -> None:
        """A session begins; its tokens are the prompt and whatever is committed already."""

    def advance(self, session: DraftSession) -> None:
        """Tokens were committed: ``session.tokens`` and ``session.tree`` have moved on."""

    def learn(
        self, session: DraftSession, candidates: Sequence[Sequence[int]], beside: Sequence[NodeCandidates] = ()
    ) -> None:
        """After ``advance``, if asked for: the target's best tokens, best first, at the last positions of the text.

        ``beside`` has them for verified nodes that are not part of the text, the least likely first.
        """

    def rewind(self, session: DraftSession, length: int) -> None:
        """The tokens from ``length`` on were replaced; the tree is empty."""

    def growable(self, session: DraftSession) -> bool:
        """Whether ``grow`` would have something to add."""
        ...

    def grow(self, sessions: Sequence[DraftSession]) -> None:
        """Adds nodes to the sessions' trees with ``session.add``: one forward or look-up over all of them."""

    def close(self, session: DraftSession) -> None:
        """A session is over."""

    def stop(self) -> None:
        """The drafter stops: what shall outlive it is put away."""
