"""Clients that never stop asking, and that compare what they are told with what they should be told."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from functools import cache
from types import TracebackType

import grpc
from tokenizers import Tokenizer

from paceline.client import GatewayClient
from paceline.embedded import TARGET
from paceline.messages import Generate

CANCELLED_SHARE = 0.1
PATIENCE_SECONDS = 60.0
STILL_SECONDS = 120.0
"""A client that hears nothing for so long has found a bug."""


Same = Callable[[Generate, Sequence[int], Sequence[int]], bool]


def near_tie(request: Generate, told: Sequence[int], expected: Sequence[int]) -> bool:
    """In standard ones they may differ after a near-tie, proven in float64."""
    from paceline.bench.ties import NEAR_TIE, first_difference, score_gap

    if first_difference(told, expected) is None:
        return False
    assert request.text is not None
    assert request.seed is not None
    prompt = tokenizer().encode(request.text).ids
    return score_gap(TARGET, prompt, told, expected, request.sampling, request.seed) < NEAR_TIE


@cache
def tokenizer() -> Tokenizer:
    return Tokenizer.from_file(str(TARGET / "tokenizer.json"))


@dataclass
class Tally:
    """What has become of all requests."""

    requests: int = 0
    cancelled: int = 0
    resumed: int = 0
    """Answers that went on at another gateway, or at the same one later."""
    mismatches: int = 0
    near_ties: int = 0
    """Texts that differ where two tokens' scores are as good as equal; in deterministic numerics there are none."""
    duplicated: int = 0
    lost: int = 0
    complaints: list[str] = field(default_factory=list)
    leaks: list[str] = field(default_factory=list)


@dataclass
class Answer:
    """One that is being told."""

    number: int
    told: list[int] = field(default_factory=list)
    resumable: bool = False
    told_at: float = field(default_factory=time.monotonic)


class Load:
    """``async with Load(…) as load``: requests run inside."""

    def __init__(
        self,
        gateways: Sequence[str],
        requests: Sequence[Generate],
        texts: Sequence[list[int]],
        clients: int,
        seed: int,
        same: Same | None = None,
    ) -> None:
        """``same``: whether texts that differ may; None: none may."""
        self.tally, self._same = Tally(), same
        self._gateways, self._requests, self._texts = list(gateways), requests, texts
        self._clients, self._chance = clients, random.Random(seed)
        self._next, self._stopping = 0, False
        self.answers: dict[int, Answer] = {}
        """By client; what each is being told now."""
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Load:
        self._tasks = [asyncio.create_task(self._ask(client)) for client in range(self._clients)]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stopping = True
        await asyncio.gather(*self._tasks)

    @property
    def flowing(self) -> bool:
        """Whether every client is in the middle of an answer, or at least most of them are, and can resume it."""
        going = [answer for answer in self.answers.values() if answer.told and answer.resumable]
        return len(going) >= max(1, self._clients // 2)

    async def longest_silence(self, since: float) -> float:
        """Waits until every answer that was being told at ``since`` has had a token after it, or has ended; how long
        the last of them took."""
        waited_for, longest = list(self.answers.items()), 0.0
        for client, answer in waited_for:
            while self.answers.get(client) is answer and answer.told_at <= since:
                if time.monotonic() - since > STILL_SECONDS:
                    self.tally.complaints.append(f"request {answer.number}: no token for {STILL_SECONDS:g} s")
                    return STILL_SECONDS
                await asyncio.sleep(0.005)
            longest = max(longest, answer.told_at - since)
        return longest

    async def _ask(self, client: int) -> None:
        """One client's life: it asks one gateway first, the next client the other one."""
        gateways = self._gateways[client % 2 :] + self._gateways[: client % 2]
        async with GatewayClient(gateways, patience_seconds=PATIENCE_SECONDS) as gateway:
            while not self._stopping:
                before = gateway.resumed
                number = self._next % len(self._requests)
                self._next += 1
                cancel = self._chance.random() < CANCELLED_SHARE
                await self._one(client, gateway, number, self._chance.randrange(1, 60) if cancel else None)
                self.tally.resumed += gateway.resumed > before

    async def _one(self, client: int, gateway: GatewayClient, number: int, cancel_after: int | None) -> None:
        self.tally.requests += 1
        answer = self.answers[client] = Answer(number)
        try:
            ended = await self._listen(gateway, answer, cancel_after)
        except grpc.aio.AioRpcError as error:
            self.tally.lost += 1
            self._complain(answer, f"{error.code()} {error.details()}")
            await asyncio.sleep(0.1)
            return
        finally:
            answer.told_at = time.monotonic()
            del self.answers[client]
        self.tally.cancelled += not ended
        expected = self._texts[number] if ended else self._texts[number][: len(answer.told)]
        if answer.told != expected:
            self.tally.mismatches += 1
            same = next(
                (i for i, pair in enumerate(zip(answer.told, expected, strict=False)) if len(set(pair)) > 1), -1
            )
            self._complain(answer, f"differs at token {same}; {len(answer.told)} tokens, {len(expected)} expected")

    async def _listen(self, gateway: GatewayClient, answer: Answer, cancel_after: int | None) -> bool:
        """Whether the answer has ended."""
        async with aclosing(gateway.generate(self._requests[answer.number])) as chunks:
            async for chunk in chunks:
                answer.resumable = bool(chunk.resume_token)
                if chunk.token_ids:
                    if chunk.position != len(answer.told):
                        self.tally.duplicated += 1
                        self._complain(answer, f"token {chunk.position} comes after {len(answer.told)}")
                    answer.told += chunk.token_ids
                    answer.told_at = time.monotonic()
                if chunk.completion is None and cancel_after is not None and len(answer.told) >= cancel_after:
                    return False
        return True

    def _complain(self, answer: Answer, said: str) -> None:
        self.tally.complaints.append(f"request {answer.number}: {said}")
