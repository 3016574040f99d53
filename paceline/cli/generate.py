"""``paceline generate``: one text from a running gateway or from a fleet started for it."""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from paceline.cli.colours import Colours
from paceline.cli.fleet import fleet_topology
from paceline.client import GatewayClient
from paceline.cluster.local import LocalCluster
from paceline.messages import Chunk, Completion, Generate
from paceline.security.identity import Trust
from paceline.speculation.fields import require
from paceline.speculation.policy import NO_SCOPE, Mode
from paceline.timeline import check_ending, write_timeline
from paceline.timeline.runs import drawn, drawn_in, repeatable

WARMING_TOKENS = 24
"""Of the text that a fleet says first which was started for a timeline: connections are made, drafters join."""


@dataclass(frozen=True)
class Gateway:
    """A gateway that is running already, and what it wants to see."""

    address: str
    api_key: str | None = None
    trust: Trust | None = None


@dataclass(frozen=True)
class Drawing:
    """A timeline that is to be written."""

    file: Path
    against: Mode | None = None
    """The same request in this mode is drawn above it."""

    @classmethod
    def of(cls, file: Path | None, against: Mode | None, mode: Mode) -> Drawing | None:
        """As the options say, of a request in this mode; None: nothing is drawn. Raises ``FieldError``."""
        if file is None:
            require(against is None, "against", against and against.value, "nothing without a timeline")
            return None
        check_ending(file, "timeline")
        require(against is not mode, "against", mode.value, "another mode than the request's own")
        return cls(file, against)


async def run_generate(
    request: Generate,
    gateway: Gateway | None,
    target: str | None,
    draft: str | None,
    drawing: Drawing | None = None,
    *,
    as_json: bool,
) -> None:
    """Streams the text to standard output, coloured by who guessed each token if that is a terminal, or prints one JSON
    object; writes the timeline if one is asked for."""
    colours = Colours.of(sys.stdout)
    if drawing or (colours.on and not as_json):
        request = replace(request, speculation=replace(request.speculation, events=True))
    if drawing and drawing.against:
        request = repeatable(request)
    async with (
        _gateway(gateway, target, draft) as found,
        GatewayClient(found.address, found.api_key, found.trust) as client,
    ):
        if drawing and gateway is None:
            await _warm_up(client, request)
        before = await drawn_in(client, request, drawing.against) if drawing and drawing.against else []
        chunks: list[Chunk] = []
        async for chunk in client.generate(request):
            chunks.append(chunk)
            if not as_json:
                sys.stdout.write(painted(chunk, colours))
                sys.stdout.flush()
        if legend := colours.legend():
            sys.stderr.write(f"\n{legend}")
        print_end = json.dumps(summarize(chunks), ensure_ascii=False) if as_json else ""
        sys.stdout.write(print_end + "\n")
        if drawing:
            write_timeline({"answers": [*before, *await drawn(client, chunks)]}, drawing.file)
            sys.stderr.write(f"timeline: {drawing.file}\n")


async def _warm_up(client: GatewayClient, request: Generate) -> None:
    few = min(WARMING_TOKENS, request.sampling.max_tokens or WARMING_TOKENS)
    apart = replace(request.speculation, mode=Mode.LOCKSTEP, cache_scope=NO_SCOPE)
    async for _ in client.generate(
        replace(request, sampling=replace(request.sampling, max_tokens=few), speculation=apart)
    ):
        pass


async def run_timeline(trace_id: str, gateway: Gateway, file: Path) -> None:
    """Writes what a gateway keeps of this trace."""
    async with GatewayClient(gateway.address, gateway.api_key, gateway.trust) as client:
        write_timeline(await client.timeline(trace_id), file)
    sys.stderr.write(f"timeline: {file}\n")


def painted(chunk: Chunk, colours: Colours) -> str:
    """The text of a chunk as it is to be written."""
    if not chunk.drafters:
        return chunk.text
    return "".join(colours.paint(text, names) for text, names in zip(chunk.pieces, chunk.drafters, strict=True))


@contextlib.asynccontextmanager
async def _gateway(given: Gateway | None, target: str | None, draft: str | None) -> AsyncIterator[Gateway]:
    if given is not None:
        yield given
        return
    topology = fleet_topology(None, target, draft)
    async with LocalCluster(replace(topology, gateway=replace(topology.gateway, http=-1))) as cluster:
        yield Gateway(cluster.gateway_address)


def summarize(chunks: list[Chunk]) -> dict[str, Any]:
    """The object that ``--json`` prints."""
    done = chunks[-1].completion
    assert done is not None, "a stream that ends without an error ends with its completion"
    return {
        "text": "".join(chunk.text for chunk in chunks),
        "token_ids": [token_id for chunk in chunks for token_id in chunk.token_ids],
        "finish_reason": done.finish_reason.value,
        "seed": chunks[0].seed,
        **({"trace_id": done.trace_id} if done.trace_id else {}),
        "usage": vars(done.usage),
        "exactness": done.exactness,
        "timing": {
            "ttft_seconds": round(done.ttft_seconds, 6),
            "tpot_seconds": round(done.tpot_seconds, 6),
            "tokens_per_second": round(tokens_per_second(done), 3),
        },
        "speculation": {
            "mode": done.mode.value,
            "steps": done.overlap.steps,
            "mean_accepted_length": round(done.overlap.mean_accepted_length, 4),
            "pre_verify_steps": done.overlap.pre_verify_steps,
            "post_verify_nodes": done.overlap.post_verify_nodes,
            "verifier_wait_seconds": round(done.overlap.verifier_wait_seconds, 6),
            "drafter_idle_seconds": round(done.overlap.drafter_idle_seconds, 6),
            "drafters": {
                item.drafter_id: {
                    "proposed": item.proposed,
                    "verified": item.verified,
                    "accepted": item.accepted,
                    "uniquely_accepted": item.uniquely_accepted,
                    "too_late": item.stale,
                    "busy_seconds": round(item.busy_seconds, 6),
                }
                for item in done.overlap.drafters
            },
        },
    }


def tokens_per_second(done: Completion) -> float:
    """Decoding speed after the first token; 0 for a single token."""
    return 1.0 / done.tpot_seconds if done.tpot_seconds > 0 else 0.0
