"""A workload asked of a gateway in real time, and what came of each request."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import grpc

from paceline.client import GatewayClient
from paceline.experiments.simulation.workload import Request
from paceline.experiments.specification import SloSpec
from paceline.messages import Completion, Generate
from paceline.speculation.policy import SpeculationParameters
from paceline.speculation.sampling import SamplingParameters

Progress = Callable[[], None]


@dataclass(frozen=True)
class Answer:
    """What became of a request; seconds since the first one was due."""

    due: float
    """When it was to be sent; in a closed loop when the one before it ended."""
    first: float = math.inf
    """When its first token came."""
    last: float = math.inf
    tokens: int = 0
    completion: Completion | None = None
    failure: str = ""
    """Why there is no completion."""

    @property
    def ttft_ms(self) -> float:
        return 1e3 * (self.first - self.due)

    @property
    def tpot_ms(self) -> float:
        """Per token after the first; of an answer of one token 0."""
        return 1e3 * (self.last - self.first) / (self.tokens - 1) if self.tokens > 1 else 0.0

    def within(self, slo: SloSpec) -> bool:
        """Never of a request that failed."""
        return not self.failure and self.ttft_ms <= slo.ttft_ms and self.tpot_ms <= slo.tpot_ms


@dataclass
class Asking:
    """How requests are put."""

    client: GatewayClient
    speculation: SpeculationParameters
    seed: int
    model: str = ""
    progress: Progress = lambda: None
    texts: tuple[str, ...] = ()
    """Prompts, in turn; none: tokens at random, so that no prompt has a beginning in common with another."""

    async def all(self, requests: Sequence[Request], sessions: int) -> list[Answer]:
        """``sessions`` 0: requests are sent when they say; else so many are always there. In the order they ended."""
        started, answers = time.monotonic(), list[Answer]()
        if sessions:
            waiting = iter(requests)
            await asyncio.gather(*(self._one_by_one(waiting, started, answers) for _ in range(sessions)))
        else:
            await asyncio.gather(*(self._at_its_time(request, started, answers) for request in requests))
        return answers

    async def _one_by_one(self, waiting: Iterator[Request], started: float, answers: list[Answer]) -> None:
        for request in waiting:
            await self._answer(request, time.monotonic() - started, started, answers)

    async def _at_its_time(self, request: Request, started: float, answers: list[Answer]) -> None:
        await asyncio.sleep(max(0.0, started + request.at - time.monotonic()))
        await self._answer(request, request.at, started, answers)

    async def _answer(self, request: Request, due: float, started: float, answers: list[Answer]) -> None:
        first, tokens, completion, failure = math.inf, 0, None, ""
        try:
            async for chunk in self.client.generate(self.asked(request)):
                if chunk.token_ids:
                    first = min(first, time.monotonic() - started)
                tokens += len(chunk.token_ids)
                completion = chunk.completion or completion
        except grpc.aio.AioRpcError as error:
            failure = f"{error.code().name}: {error.details()}"
        if not failure and tokens == 0:
            failure = "no tokens"
        answers.append(Answer(due, first, time.monotonic() - started, tokens, completion, failure))
        self.progress()

    def asked(self, request: Request) -> Generate:
        """Greedy, and to its full length."""
        texts = self.texts
        return Generate(
            model=self.model,
            text=texts[request.index % len(texts)] if texts else None,
            token_ids=None if texts else request.prompt(),
            sampling=SamplingParameters(max_tokens=request.output_tokens, temperature=0.0, ignore_eos=True),
            speculation=self.speculation,
            seed=self.seed,
        )
