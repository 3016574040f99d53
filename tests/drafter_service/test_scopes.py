"""Memories are kept apart, and there are only so many of them."""

from __future__ import annotations

from drafter_service.drafters.scopes import SCOPES, ScopedMemories
from tests.drafter_service.growing import session_of


def test_the_scope_not_opened_for_longest_is_forgotten_and_the_shared_one_never() -> None:
    memories = ScopedMemories[list[int]](list)
    shared, oldest, kept = (memories.of(session_of([1], scope=scope)) for scope in ("", "oldest", "kept"))
    for index in range(SCOPES - 1):
        memories.of(session_of([1], scope=f"scope-{index}"))
        assert memories.of(session_of([1], scope="kept")) is kept
    assert memories.of(session_of([1])) is shared
    assert memories.of(session_of([1], scope="oldest")) is not oldest


def test_no_two_sessions_share_what_is_not_to_be_remembered() -> None:
    memories, forgetful = ScopedMemories[list[int]](list), ScopedMemories[list[int]](list, memory=False)
    assert memories.of(session_of([1], scope="none")) is not memories.of(session_of([1], scope="none"))
    for scope in ("", "a"):
        assert forgetful.of(session_of([1], scope=scope)) is not forgetful.of(session_of([1], scope=scope))
