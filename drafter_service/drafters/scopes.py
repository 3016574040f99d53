"""What drafters remember from session to session, kept apart by cache scope."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Generic, TypeVar

from drafter_service.session import DraftSession
from paceline.speculation.policy import NO_SCOPE

MemoryT = TypeVar("MemoryT")

SCOPES = 16
"""Memories of scopes that have a name; past that the least recently opened one is forgotten."""


class ScopedMemories(Generic[MemoryT]):
    """A memory for each scope: the shared one, those with a name, and for scope ``none`` a new one each time.

    Text of one scope is private to it, so two scopes never see the same memory.
    """

    def __init__(self, make: Callable[[], MemoryT], *, memory: bool = True) -> None:
        """``memory=False``: every session is treated as one of scope ``none``."""
        self._make, self._memory = make, memory
        self._shared = make()
        self._named = OrderedDict[str, MemoryT]()

    def of(self, session: DraftSession) -> MemoryT:
        """To be asked for once, when the session is opened; it keeps its memory, should that be forgotten here."""
        scope = session.attach.speculation.cache_scope
        if not self._memory or scope == NO_SCOPE:
            return self._make()
        if not scope:
            return self._shared
        if scope not in self._named:
            self._named[scope] = self._make()
        self._named.move_to_end(scope)
        if len(self._named) > SCOPES:
            self._named.popitem(last=False)
        return self._named[scope]
