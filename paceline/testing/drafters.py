"""Scripted drafters, in this process or (``paceline.testing.drafter``) in one of their own."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass

from drafter_service.drafters.base import DraftKind
from drafter_service.drafters.ngram import NgramDrafter
from drafter_service.links import Links
from drafter_service.service import Drafter, VerifierLink
from drafter_service.servicer import DrafterServicer
from paceline import rpc, wire
from paceline.checkpoint import check_reference, resolve
from paceline.loop import DeviceLoop
from paceline.messages import DrafterDescription, DraftUpdate, Rejection, Status
from paceline.settings import setting
from paceline.speculation.fields import every_error
from paceline.testing.scripts import GUESSING, SCRIPTS, GuessingKind, Script

MAX_CONTEXT, MAX_SESSIONS = 131_072, 256


@dataclass(frozen=True)
class ScriptedConfig:
    """Drafts by a script."""

    script: str = setting("one of " + ", ".join(SCRIPTS))
    verifiers: tuple[str, ...] = setting("addresses that it may draft for, separated by commas")
    model: str | None = setting("checkpoint whose guesses an honest script takes; none: n-grams", None)
    vocabulary_size: int = setting("tokens that a guessing script draws from", 64)
    name: str = setting("name of this worker; empty: its script", "")
    host: str = setting("address to listen on", "127.0.0.1")
    port: int = setting("port to listen on; 0 takes a free one", 0)
    exit_with_parent: bool = setting("a parent holds our port; stop when standard input closes", False)

    def __post_init__(self) -> None:
        with every_error() as checks:
            checks.require(self.script in SCRIPTS, "script", self.script, f"one of {', '.join(SCRIPTS)}")
            checks.require(bool(self.verifiers), "verifiers", "", "at least one address")
            checks.require(self.vocabulary_size >= 1, "vocabulary_size", self.vocabulary_size, "at least 1")
            if self.model is not None:
                with checks.caught():
                    check_reference("model", self.model)

    @property
    def worker_name(self) -> str:
        return self.name or self.script


class StubbornDrafter(Drafter):
    """Comes again whenever it is shown out for what it has said, and says it again."""

    def _rejected(self, rejection: Rejection, link: VerifierLink) -> None:
        member = self._member(rejection.session_id, rejection.epoch or None, link)
        if member is not None and rejection.status is Status.INVALID_ARGUMENT:
            link.send(DraftUpdate(joins=(self._join(member.session),)))
        else:
            super()._rejected(rejection, link)


class ScriptedLinks(Links):
    """Streams on which a script has its way."""

    def __init__(self, drafter: Drafter, verifiers: tuple[str, ...], script: Script) -> None:
        super().__init__(drafter, verifiers)
        self._script = script

    def outgoing(self, link: rpc.Outgoing[DraftUpdate]) -> AsyncIterator[wire.verifier.DraftUpdate]:
        altered = self._script.alteration(super().outgoing(link))
        return self._flood(altered) if self._script.floods else altered

    async def _flood(
        self, updates: AsyncIterator[wire.verifier.DraftUpdate]
    ) -> AsyncIterator[wire.verifier.DraftUpdate]:
        """What there is to say, and meanwhile the last words as often as they are taken, for as long as it drafts."""
        words = wire.verifier.DraftUpdate()
        coming = asyncio.ensure_future(anext(updates))
        try:
            while True:
                if coming.done() or not self._drafter.attached_sessions:
                    update = await coming
                    coming = asyncio.ensure_future(anext(updates))
                    words = update if update.nodes else words
                    yield update
                else:
                    yield words
        except StopAsyncIteration:
            return
        finally:
            coming.cancel()


@dataclass(frozen=True)
class ScriptedDrafter:
    """One that serves."""

    address: str
    drafter: Drafter


@contextlib.asynccontextmanager
async def scripted_drafter(config: ScriptedConfig) -> AsyncIterator[ScriptedDrafter]:
    """Serves ``Attach`` and ``Describe`` and drafts by its script until the context is left."""
    started = time.time_ns()
    kind, vocabulary_size = await asyncio.to_thread(_kind, config)
    drafter = StubbornDrafter(
        kind,
        drafter_id=config.worker_name,
        vocabulary_size=vocabulary_size,
        max_context=MAX_CONTEXT,
        max_sessions=MAX_SESSIONS,
    )
    links = ScriptedLinks(drafter, config.verifiers, SCRIPTS[config.script])
    server = rpc.Server(["paceline.v1.DrafterService"], reserved=config.exit_with_parent)

    def describe() -> DrafterDescription:
        return DrafterDescription(
            config.worker_name, "scripted", config.script, 0, "", 0.0, MAX_SESSIONS, drafter.attached_sessions,
            MAX_CONTEXT, started, verifiers=config.verifiers,
        )  # fmt: skip

    wire.add_drafter(DrafterServicer(drafter, links, describe), server.server)
    growing = DeviceLoop("growing loop", drafter, on_failure=_raise)
    growing.start()
    try:
        port = await server.start(config.host, config.port, insecure=False)
        await server.ready()
        yield ScriptedDrafter(f"{config.host}:{port}", drafter)
    finally:
        await server.stop(grace_seconds=0.0)
        await links.close()
        await asyncio.to_thread(growing.stop)


def _kind(config: ScriptedConfig) -> tuple[DraftKind, int]:
    """Who guesses, and the vocabulary that it knows; 0: any."""
    guesses = SCRIPTS[config.script].guesses
    if guesses == GUESSING:
        return GuessingKind(config.vocabulary_size), 0
    if config.model is None:
        return NgramDrafter(), 0
    from drafter_service.drafters.model import ModelDrafter
    from paceline.engine.runner import ModelRunner

    runner = ModelRunner.load(resolve(config.model), cache_tokens=65536)
    return ModelDrafter(runner), runner.config.vocabulary_size


def _raise(error: BaseException) -> None:
    raise error
