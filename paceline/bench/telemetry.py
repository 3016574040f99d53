"""``bench telemetry``: what it costs that a fleet tells what it does.

Three fleets of the embedded pair side by side: one that tells nothing, one as it is by default, and one that tells
everything (every request traced, spans and measurements sent to a collector that throws them away). They answer the
same requests in turn; what counts is the processor time of all services of a fleet for a token, as a ratio within each
turn. After each answer of the second and third all pages of metrics are read, more often than any Prometheus does.
"""

from __future__ import annotations

import asyncio
import urllib.request
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import grpc
from grpc import aio
from rich.progress import track

from paceline.bench.decode import encoded_prompts
from paceline.bench.report import Report
from paceline.client import GatewayClient
from paceline.cluster.local import LocalCluster
from paceline.cluster.topology import TelemetryKeys, Topology
from paceline.embedded import TARGET, pair_topology
from paceline.messages import Generate
from paceline.process import run_async
from paceline.settings import setting
from paceline.speculation.fields import require
from paceline.speculation.policy import Mode, SpeculationParameters
from paceline.speculation.sampling import SamplingParameters
from paceline.testing.processes import Process

LEVELS = ("off", "default", "full")
MODES = {mode.value: mode for mode in Mode}


@dataclass(frozen=True)
class TelemetryBench:
    """Processor time for a token with telemetry off, by default, and with everything."""

    mode: str = setting("overlapped, lockstep or off", Mode.OVERLAPPED.value)
    sessions: int = setting("concurrent requests", 4)
    tokens: int = setting("tokens of an answer", 512)
    repeats: int = setting("answers of each fleet; medians are reported", 12)
    quick: bool = setting("two short answers of each", False)
    json: Path | None = setting("also write every row to this file", None)

    def __post_init__(self) -> None:
        require(self.mode in MODES, "mode", self.mode, " or ".join(MODES))
        for field in ("sessions", "tokens", "repeats"):
            require(getattr(self, field) >= 1, field, getattr(self, field), "at least 1")


def run(bench: TelemetryBench) -> None:
    bench = replace(bench, tokens=64, repeats=2) if bench.quick else bench
    report = Report("telemetry", asdict(bench))
    report.parameters.pop("json")
    run_async(_measure(report, bench))
    of = {level: report.median("cpu_us_per_token", level=level) for level in LEVELS}
    ratios = {
        f"{level}_vs_off": report.ratio("cpu_us_per_token", {"level": level}, {"level": "off"}) for level in LEVELS[1:]
    }
    lines = [[level, f"{of[level]:.0f}", f"{ratios.get(f'{level}_vs_off', 1.0):.3f}"] for level in LEVELS]
    report.table("processor time of all services for a token", ("telemetry", "µs", "ratio to off"), lines)
    report.finish(bench.json, **{name: round(ratio, 3) for name, ratio in ratios.items()})


class _Fleet(LocalCluster):
    """Of one level."""

    def __init__(self, topology: Topology, level: str) -> None:
        super().__init__(topology)
        self.level = level

    def _spawn(self, name: str, module: str, arguments: Sequence[str], port: int = 0) -> str:
        off = ["--telemetry", "off"] if self.level == "off" else []
        return super()._spawn(name, module, [*arguments, *off], port)

    @property
    def cpu_seconds(self) -> float:
        return sum(Process(worker.process.pid).cpu_seconds for worker in self.workers)

    async def answer(self, client: GatewayClient, requests: Sequence[Generate]) -> int:
        """All at once; how many tokens they came to."""
        lengths = await asyncio.gather(*(_length(client, asked) for asked in requests))
        if self.level != "off":
            await asyncio.to_thread(self._read_metrics)
        return sum(lengths)

    def _read_metrics(self) -> None:
        for address in (self.http_address, *self.metrics_addresses.values()):
            with urllib.request.urlopen(f"http://{address}/metrics", timeout=5) as reply:
                reply.read()


async def _length(client: GatewayClient, asked: Generate) -> int:
    return sum([len(chunk.token_ids) async for chunk in client.generate(asked)])


async def _measure(report: Report, bench: TelemetryBench) -> None:
    prompts, plain = encoded_prompts(TARGET, bench.sessions), pair_topology()
    sampling = SamplingParameters(bench.tokens, 0.8, ignore_eos=True)
    asked = Generate(sampling=sampling, speculation=SpeculationParameters(MODES[bench.mode]))
    async with AsyncExitStack() as stack:
        collector = await stack.enter_async_context(_collector())
        everything = replace(plain, telemetry=TelemetryKeys(otlp=f"http://{collector}", trace_ratio=1.0))
        fleets = [_Fleet(everything if level == "full" else plain, level) for level in LEVELS]
        clients = []
        for fleet in fleets:
            await stack.enter_async_context(fleet)
            clients.append(await stack.enter_async_context(GatewayClient(fleet.gateway_address)))
        pairs = list(zip(fleets, clients, strict=True))
        for repeat in track(range(-1, bench.repeats), console=report.console, transient=True):
            requests = [replace(asked, token_ids=tuple(prompt), seed=1000 + repeat) for prompt in prompts]
            turn = repeat % len(pairs)
            for fleet, client in pairs[turn:] + pairs[:turn]:
                before = fleet.cpu_seconds
                tokens = await fleet.answer(client, requests)
                took = fleet.cpu_seconds - before
                if repeat >= 0:  # the first turn warms up
                    report.add(level=fleet.level, repeat=repeat, tokens=tokens, cpu_us_per_token=took / tokens * 1e6)


@asynccontextmanager
async def _collector() -> AsyncIterator[str]:
    """One that takes all that is exported by OTLP and keeps nothing."""

    class Sink(grpc.GenericRpcHandler):
        def service(self, _: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler[Any, Any]:
            async def take(*_: object) -> bytes:
                return b""

            return grpc.unary_unary_rpc_method_handler(take)

    server = aio.server()
    server.add_generic_rpc_handlers((Sink(),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        await server.stop(0)
