"""What drafters remember from session to session, kept apart by target and cache scope.

A drafter may serve several targets at once. What one target says, and how often guesses at it come true, tells nothing
certain of another one, not even what its token ids mean; so nothing that is learned of one is used for another.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

from drafter_service.session import DraftSession
from paceline.speculation.policy import NO_SCOPE

MemoryT = TypeVar("MemoryT")
KeyT = TypeVar("KeyT", bound=Hashable)

TARGETS = 32
"""Targets told apart; past that what is known of the one asked for least recently is forgotten."""
SCOPES = 16
"""Memories of scopes that have a name; past that the least recently opened one is forgotten."""


class PerTarget(Generic[MemoryT]):
    """An estimate for each target, one for greedy and one for noisy choices: noise changes what a score means."""

    def __init__(self, make: Callable[[], MemoryT]) -> None:
        self._known = _Bounded[tuple[str, bool], MemoryT](make, 2 * TARGETS)

    def of(self, session: DraftSession) -> MemoryT:
        return self._known.get((session.attach.model, session.attach.sampling.greedy))


class ScopedMemories(Generic[MemoryT]):
    """A memory for each target and scope: the shared one, named ones, and for scope ``none`` a new one each time.

    Text of one scope is private to it, so two scopes never see the same memory.
    """

    def __init__(self, make: Callable[[], MemoryT], *, memory: bool = True) -> None:
        """``memory=False``: every session is treated as one of scope ``none``."""
        self._make, self._memory = make, memory
        self._shared = _Bounded[str, MemoryT](make, TARGETS)
        self._named = _Bounded[tuple[str, str], MemoryT](make, SCOPES)

    def of(self, session: DraftSession) -> MemoryT:
        """To be asked for once, when the session is opened; it keeps its memory, should that be forgotten here."""
        target, scope = session.attach.model, session.attach.speculation.cache_scope
        if not self._memory or scope == NO_SCOPE:
            return self._make()
        return self._named.get((target, scope)) if scope else self._shared.get(target)


def memory_key(session: DraftSession) -> str:
    """Target and scope of a session in one word."""
    target, scope = session.attach.model, session.attach.speculation.cache_scope
    return f"{target}\n{scope}" if target else scope


class _Bounded(Generic[KeyT, MemoryT]):
    """Made when first asked for; the one asked for least recently is forgotten."""

    def __init__(self, make: Callable[[], MemoryT], most: int) -> None:
        self._make, self._most = make, most
        self._held = OrderedDict[KeyT, MemoryT]()

    def get(self, key: KeyT) -> MemoryT:
        if key not in self._held:
            self._held[key] = self._make()
        self._held.move_to_end(key)
        if len(self._held) > self._most:
            self._held.popitem(last=False)
        return self._held[key]
