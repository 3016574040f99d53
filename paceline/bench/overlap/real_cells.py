"""Cells for real: a fleet of processes with emulated step times and link."""

from __future__ import annotations

import statistics

from rich.progress import track

from paceline.bench.decode import encoded_prompts
from paceline.bench.overlap.policies import options
from paceline.bench.overlap.virtual_cells import DRAFT_SECONDS, SEED
from paceline.bench.report import Report, Row
from paceline.client import GatewayClient
from paceline.cluster.local import LocalCluster
from paceline.cluster.topology import DrafterPool, ModelRoute, Topology, VerifierPool
from paceline.embedded import DRAFT, TARGET
from paceline.emulation import Lateness
from paceline.messages import Generate
from paceline.speculation.policy import SpeculationParameters
from paceline.speculation.sampling import SamplingParameters

CELLS = ((0.02, 0.0), (0.02, 0.5), (0.04, 0.0), (0.04, 0.25), (0.04, 0.5), (0.04, 1.0))
"""Step in seconds and round trip in steps."""
MOST_LATE = 0.01
"""A cell in which more of the forwards missed their deadline does not count."""


async def measure_real(report: Report, temperatures: tuple[float, ...], max_tokens: int) -> None:
    """Adds a row for each cell, policy and length."""
    for step, share in track(CELLS, description="real", console=report.console, transient=True):
        link = f"rtt={share * step * 1e3:.1f}ms" if share else ""
        topology = Topology(
            models=(ModelRoute("target", str(TARGET), "verifier", ("draft",)),),
            verifiers={"verifier": VerifierPool(emulate_step_time=f"{step * 1e3:.0f}ms")},
            drafters={
                "draft": DrafterPool(
                    "model", str(DRAFT), emulate_step_time=f"{DRAFT_SECONDS * 1e3:.0f}ms", emulate_link=link
                )
            },
        )
        async with LocalCluster(topology) as cluster, GatewayClient(cluster.gateway_address) as client:
            rows = [
                {**await _decode(client, speculation, temperature, max_tokens), "policy": policy, "option": option}
                for temperature in temperatures
                for policy, option, speculation in options()
            ]
            late = max(Lateness.read(cluster.worker(name).last_words()).share for name in ("verifier", "draft"))
        for row in rows:
            report.add(clock="real", step=step, rtt=share, sessions=1, late=late, valid=late <= MOST_LATE, **row)


async def _decode(
    client: GatewayClient, speculation: SpeculationParameters, temperature: float, max_tokens: int
) -> Row:
    """Two prompts, one after the other."""
    sampling = SamplingParameters(max_tokens=max_tokens, temperature=temperature, ignore_eos=True)
    done = []
    for prompt in encoded_prompts(TARGET, 2):
        request = Generate(token_ids=tuple(prompt), sampling=sampling, speculation=speculation, seed=SEED)
        chunks = [chunk async for chunk in client.generate(request)]
        completion = chunks[-1].completion
        assert completion is not None, "a stream that ends without an error ends with its completion"
        done.append(completion)
    return {
        "temperature": temperature,
        "tokens_per_second": statistics.mean(1 / completion.tpot_seconds for completion in done),
        "mean_accepted_length": statistics.mean(completion.overlap.mean_accepted_length for completion in done),
        "wait": statistics.mean(c.overlap.verifier_wait_seconds / c.overlap.steps for c in done),
    }
