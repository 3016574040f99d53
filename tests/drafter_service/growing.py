"""Drafters on their own: a session without transport, and what one growth adds to its tree."""

from __future__ import annotations

from collections.abc import Sequence

from drafter_service.drafters.base import DraftKind
from drafter_service.session import DraftSession
from paceline.messages import Attach
from paceline.speculation.policy import SpeculationParameters
from paceline.speculation.sampling import SamplingParameters
from paceline.speculation.tree import Node


def session_of(
    token_ids: Sequence[int],
    name: str = "s",
    *,
    prediction: Sequence[int] = (),
    scope: str = "",
    width: int = 4,
    temperature: float = 0.8,
    model: str = "",
) -> DraftSession:
    """A session that has joined, with as much credit as it likes."""
    attach = Attach(
        session_id=name,
        epoch=1,
        verifier="",
        token_ids=tuple(token_ids),
        prompt_length=len(token_ids),
        sampling=SamplingParameters(temperature=temperature),
        speculation=SpeculationParameters(draft_width=width, draft_depth=64, max_draft_nodes=64, cache_scope=scope),
        noise_key=1,
        key=b"",
        prediction=tuple(prediction),
        model=model,
    )
    session = DraftSession(attach, 0, 1 << 20)
    session.joined, session.node_limit = True, 1 << 30
    return session


def opened(kind: DraftKind, token_ids: Sequence[int], name: str = "s", **options: object) -> DraftSession:
    session = session_of(token_ids, name, **options)  # type: ignore[arg-type]
    kind.open(session)
    return session


def commit(kind: DraftKind, session: DraftSession, token_ids: Sequence[int]) -> None:
    session.extend(tuple(token_ids))
    kind.advance(session)


def paths(session: DraftSession) -> set[tuple[int, ...]]:
    """The token paths of all leaves under the root."""

    def below(node: Node) -> set[tuple[int, ...]]:
        if not node.children:
            return {()}
        return {(token, *path) for token, child in node.children.items() for path in below(child)}

    return below(session.tree.root) - {()}


def grown(kind: DraftKind, session: DraftSession) -> set[tuple[int, ...]]:
    """The paths after one growth."""
    if kind.growable(session):
        kind.grow([session])
    return paths(session)
