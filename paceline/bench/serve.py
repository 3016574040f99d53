"""``bench serve``: a gateway under load: many streams at once, arrivals at random, more than can be served.

Closed loop: so many streams at once, with and without drafting in turn. Poisson: to a fleet that runs ``slots``
sessions at a time requests come at random, at half of what it can serve and at three times that much.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import statistics
import time
from collections.abc import AsyncIterator, Coroutine, Iterator, Sequence
from dataclasses import asdict, dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Any, Protocol

import grpc
import numpy as np
from rich.progress import track

from paceline.bench.prompts import CODE_PROMPTS
from paceline.bench.report import Report
from paceline.client import GatewayClient
from paceline.cluster.local import LocalCluster
from paceline.embedded import pair_topology
from paceline.messages import Generate
from paceline.process import run_async
from paceline.settings import setting
from paceline.speculation.fields import require
from paceline.speculation.policy import Mode, SpeculationParameters
from paceline.speculation.sampling import SamplingParameters
from paceline.testing.processes import Process

MODES = (Mode.OFF, Mode.OVERLAPPED)
FACES = ("grpc", "http")
USUAL_LOAD, OVERLOAD = 0.5, 3.0
"""Of the requests a second that a fleet with all its slots taken can serve."""
SLOTS_VARIABLE = "PACELINE_GATEWAY_SESSIONS_PER_VERIFIER"


@dataclass(frozen=True)
class ServeBench:
    """A fleet of the embedded pair under load."""

    streams: int = setting("streams at once in the closed loop", 256)
    tokens: int = setting("tokens of an answer", 64)
    rounds: int = setting("rounds of the closed loop, with and without drafting in turn", 3)
    face: str = setting("grpc or http", "grpc")
    slots: int = setting("sessions that run at a time where requests come at random", 16)
    seconds: float = setting("how long requests come at random, at each load", 15.0)
    json: Path | None = setting("also write every row to this file", None)

    def __post_init__(self) -> None:
        for field in ("streams", "tokens", "rounds", "slots"):
            require(getattr(self, field) >= 1, field, getattr(self, field), "at least 1")
        require(self.face in FACES, "face", self.face, " or ".join(FACES))
        require(self.seconds > 0, "seconds", self.seconds, "more than 0")


def run(bench: ServeBench) -> None:
    report = Report("serve", asdict(bench))
    report.parameters.pop("json")
    run_async(_closed(report, bench))
    os.environ[SLOTS_VARIABLE] = str(bench.slots)
    run_async(_arrivals(report, bench))
    _finish(report, bench)


async def _closed(report: Report, bench: ServeBench) -> None:
    async with LocalCluster(pair_topology()) as cluster, GatewayClient(cluster.gateway_address) as client:
        ask = Http(cluster.http_address) if bench.face == "http" else Grpc(client)
        load = Load(ask, cluster.worker("gateway").process.pid, bench.tokens)
        await load.closed(Mode.OVERLAPPED, 4)  # warms up
        turns = [(repeat, mode) for repeat in range(bench.rounds) for mode in MODES]
        for repeat, mode in track(turns, console=report.console, transient=True):
            report.add(load="closed", mode=mode.value, repeat=repeat, **await load.closed(mode, bench.streams))


async def _arrivals(report: Report, bench: ServeBench) -> None:
    async with LocalCluster(pair_topology()) as cluster, GatewayClient(cluster.gateway_address) as client:
        ask = Http(cluster.http_address) if bench.face == "http" else Grpc(client)
        load = Load(ask, cluster.worker("gateway").process.pid, bench.tokens)
        await load.closed(Mode.OVERLAPPED, bench.slots)  # warms up
        full = [await load.closed(Mode.OVERLAPPED, bench.slots) for _ in range(4)]
        possible = statistics.median(row["requests_per_second"] for row in full)
        for share in (USUAL_LOAD, OVERLOAD):
            row = await load.poisson(share * possible, bench.seconds)
            report.add(load=f"{share:g} of capacity", mode=Mode.OVERLAPPED.value, repeat=0, **row)


@dataclass(frozen=True)
class Answer:
    """What came of one request; times in seconds from when it was sent."""

    ended: float
    tokens: int = 0
    first: float = 0.0
    per_token: float = 0.0
    status: grpc.StatusCode = grpc.StatusCode.OK


class Ask(Protocol):
    """Sends a request; gives the number of tokens of each chunk. Raises what has a ``code``."""

    def __call__(self, asked: Generate) -> AsyncIterator[int]: ...


class Grpc:
    """Over ``Generate``."""

    def __init__(self, client: GatewayClient) -> None:
        self._client = client

    async def __call__(self, asked: Generate) -> AsyncIterator[int]:
        async for chunk in self._client.generate(asked):
            yield len(chunk.token_ids)


class Refused(Exception):
    """An HTTP status that is no success."""

    def __init__(self, status: int) -> None:
        super().__init__(f"HTTP {status}")
        self._status = status

    def code(self) -> grpc.StatusCode:
        full = self._status == HTTPStatus.TOO_MANY_REQUESTS
        return grpc.StatusCode.RESOURCE_EXHAUSTED if full else grpc.StatusCode.UNKNOWN


class Http:
    """Over ``/v1/completions`` as a stream, a connection for each request. It shares the cores, so it does no more."""

    def __init__(self, address: str) -> None:
        self._host, _, port = address.partition(":")
        self._port = int(port)

    async def __call__(self, asked: Generate) -> AsyncIterator[int]:
        reader, writer = await asyncio.open_connection(self._host, self._port)
        try:
            writer.write(self._request(asked))
            status = int((await reader.readline()).split()[1])
            if status != HTTPStatus.OK:
                raise Refused(status)
            counted = 0
            while line := await reader.readline():
                if line.startswith(b"data: {"):
                    usage = json.loads(line[6:])["usage"]
                    told = usage["completion_tokens"] if usage else 1  # a chunk has a token, how many the last one says
                    yield told - counted
                    counted = told
                elif line.startswith(b"data: [DONE]"):
                    return
        finally:
            writer.close()

    @staticmethod
    def _request(asked: Generate) -> bytes:
        sampling = asked.sampling
        body = json.dumps({
            "prompt": asked.text, "seed": asked.seed, "max_tokens": sampling.max_tokens, "stream": True,
            "temperature": sampling.temperature, "ignore_eos": sampling.ignore_eos,
            "speculation": {"mode": asked.speculation.mode.value}, "stream_options": {"include_usage": True},
        }).encode()  # fmt: skip
        fields = (
            "Host: gateway",
            "Content-Type: application/json",
            f"Content-Length: {len(body)}",
            "Connection: close",
        )
        return "\r\n".join(("POST /v1/completions HTTP/1.1", *fields, "", "")).encode() + body


class Load:
    """Requests to one gateway, and what they cost it."""

    def __init__(self, ask: Ask, gateway_pid: int, tokens: int) -> None:
        self._ask, self._gateway, self._tokens = ask, Process(gateway_pid), tokens
        self._number = 0

    async def closed(self, mode: Mode, streams: int) -> dict[str, Any]:
        """All at once, each with a text of its own."""
        return await self._measured(self._answer(mode) for _ in range(streams))

    async def poisson(self, rate: float, seconds: float) -> dict[str, Any]:
        """``rate`` requests a second, at random."""
        draw, at, delayed = random.Random(0), 0.0, []
        while (at := at + draw.expovariate(rate)) < seconds:
            delayed.append(self._later(at))
        return await self._measured(delayed)

    async def _later(self, seconds: float) -> Answer:
        await asyncio.sleep(seconds)
        return await self._answer(Mode.OVERLAPPED)

    async def _measured(self, requests: Iterator[Coroutine[Any, Any, Answer]] | Sequence[Any]) -> dict[str, Any]:
        busy, started = self._gateway.cpu_seconds, time.monotonic()
        answers = await asyncio.gather(*requests)
        elapsed, busy = time.monotonic() - started, self._gateway.cpu_seconds - busy
        served = [answer for answer in answers if answer.status is grpc.StatusCode.OK]
        refused = [answer for answer in answers if answer.status is grpc.StatusCode.RESOURCE_EXHAUSTED]
        tokens = sum(answer.tokens for answer in served)
        return {
            "requests": len(answers),
            "served": len(served),
            "refused": len(refused),
            "errors": len(answers) - len(served) - len(refused),
            "requests_per_second": len(served) / elapsed,
            "tokens_per_second": tokens / elapsed,
            "gateway_us_per_token": 1e6 * busy / max(tokens, 1),
            "ttft_ms": _percentiles([answer.first for answer in served]),
            "tpot_ms": _percentiles([answer.per_token for answer in served]),
            "refused_ms": _percentiles([answer.ended for answer in refused]),
        }

    async def _answer(self, mode: Mode) -> Answer:
        self._number += 1
        asked = Generate(
            text=CODE_PROMPTS[self._number % len(CODE_PROMPTS)],
            sampling=SamplingParameters(self._tokens, 0.8, ignore_eos=True),
            speculation=SpeculationParameters(mode),
            seed=self._number,
        )
        started, first, tokens = time.monotonic(), 0.0, 0
        try:
            async for count in self._ask(asked):
                if count and not first:
                    first = time.monotonic() - started
                tokens += count
        except (grpc.aio.AioRpcError, Refused) as error:
            return Answer(time.monotonic() - started, status=error.code())
        ended = time.monotonic() - started
        return Answer(ended, tokens, first, (ended - first) / max(tokens - 1, 1))


def _percentiles(seconds: Sequence[float]) -> dict[str, float]:
    """p50, p90 and p99 in milliseconds; empty where there is nothing."""
    if not seconds:
        return {}
    return {f"p{share}": 1e3 * float(np.percentile(seconds, share)) for share in (50, 90, 99)}


def _finish(report: Report, bench: ServeBench) -> None:
    def shown(times: dict[str, float]) -> str:
        return " / ".join(f"{value:.1f}" for value in times.values()) or "-"

    columns = ("load", "mode", "requests", "refused", "errors", "tokens/s", "gateway µs per token")
    times = ("TTFT ms p50/90/99", "TPOT ms", "refusal ms")
    lines = [
        [
            row["load"], row["mode"], str(row["requests"]), str(row["refused"]), str(row["errors"]),
            f"{row['tokens_per_second']:.0f}", f"{row['gateway_us_per_token']:.0f}",
            *(shown(row[name]) for name in ("ttft_ms", "tpot_ms", "refused_ms")),
        ]
        for row in report.rows
    ]  # fmt: skip
    report.table("under load", (*columns, *times), lines)
    usual, overload = (
        next(row for row in report.rows if row["load"].startswith(f"{share:g} ")) for share in (USUAL_LOAD, OVERLOAD)
    )
    closed = report.select(load="closed")
    report.finish(
        bench.json,
        errors=sum(row["errors"] for row in report.rows),
        gateway_us_per_token=statistics.median(row["gateway_us_per_token"] for row in closed),
        ttft_p99_ms=usual["ttft_ms"].get("p99", float("nan")),
        tpot_p50_ms=usual["tpot_ms"].get("p50", float("nan")),
        overlapped_vs_off=report.ratio("tokens_per_second", {"load": "closed", "mode": "overlapped"}, {"mode": "off"}),
        overload_refused=overload["refused"] / max(overload["requests"], 1),
        overload_tpot_ratio=overload["tpot_ms"].get("p50", float("nan")) / usual["tpot_ms"].get("p50", float("nan")),
    )
