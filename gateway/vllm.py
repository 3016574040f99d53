"""The same numbers by the names that vLLM gives them, for dashboards and tools that read those.

OpenTelemetry's names have no colon, so Prometheus's client collects them, from the same counts. Accepted tokens are
nodes that became part of a text, drafts are steps, by session, that had nodes to verify; so one plus their ratio is the
mean acceptance length of such steps, as there.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import accumulate

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from gateway.admission import QueueStatistics
from gateway.counts import ModelCounts, Steps
from gateway.service import Gateway
from paceline.telemetry import genai

LABEL = "model_name"
COUNTERS: tuple[tuple[str, str, Callable[[ModelCounts], int]], ...] = (
    ("spec_decode_num_drafts", "Steps of a session that had draft tokens.", lambda it: it.steps.drafted),
    ("spec_decode_num_draft_tokens", "Draft tokens that were verified.", lambda it: it.steps.verified),
    ("spec_decode_num_accepted_tokens", "Draft tokens that were accepted.", lambda it: it.steps.accepted_nodes),
    ("prompt_tokens", "Tokens of prompts.", lambda it: it.prompt),
    ("generation_tokens", "Tokens of answers.", lambda it: it.delivered),
)
GAUGES: tuple[tuple[str, str, Callable[[QueueStatistics], int]], ...] = (
    ("num_requests_running", "Requests that have a slot.", lambda it: it.running),
    ("num_requests_waiting", "Requests that wait for one.", lambda it: it.waiting),
)
PER_POSITION = "spec_decode_num_accepted_tokens_per_pos"


@dataclass
class _FirstTokens:
    """Of one model: requests by the time to their first token."""

    counts: list[int] = field(default_factory=lambda: [0] * (len(genai.FIRST_TOKEN_BOUNDS) + 1))
    seconds: float = 0.0

    def add(self, seconds: float) -> None:
        self.counts[bisect_left(genai.FIRST_TOKEN_BOUNDS, seconds)] += 1
        self.seconds += seconds

    def buckets(self) -> list[tuple[str, float]]:
        bounds = [*map(str, genai.FIRST_TOKEN_BOUNDS), "+Inf"]
        return list(zip(bounds, accumulate(self.counts), strict=True))


class VllmNames(Collector):
    """Of one gateway."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self._first_tokens: dict[str, _FirstTokens] = {}
        gateway.telemetry.registry.register(self)
        gateway.counts.timings.on_first_token.append(self._first_token)

    def _first_token(self, seconds: float, model: str) -> None:
        self._first_tokens.setdefault(model, _FirstTokens()).add(seconds)

    def collect(self) -> Iterator[Metric]:
        models = list(self._gateway.counts.models.items())
        for name, says, number in COUNTERS:
            family = CounterMetricFamily(f"vllm:{name}", says, labels=[LABEL])
            for model, counts in models:
                family.add_metric([model], number(counts))
            yield family
        positions = CounterMetricFamily(
            f"vllm:{PER_POSITION}", "Draft tokens that were accepted, by position.", labels=[LABEL, "position"]
        )
        for model, counts in models:
            for position, accepted in enumerate(_per_position(counts.steps)):
                positions.add_metric([model, str(position)], accepted)
        yield positions
        for name, says, of_queue in GAUGES:
            gauge = GaugeMetricFamily(f"vllm:{name}", says, labels=[LABEL])
            for model, queue in self._gateway.admission.statistics().items():
                gauge.add_metric([model], of_queue(queue))
            yield gauge
        says = "From a request's arrival to its first token."
        first = HistogramMetricFamily("vllm:time_to_first_token_seconds", says, labels=[LABEL])
        for model, tokens in list(self._first_tokens.items()):
            first.add_metric([model], tokens.buckets(), tokens.seconds)
        yield first


def _per_position(steps: Steps) -> list[int]:
    """How many steps have accepted a node at each depth, the first below the root being 0."""
    histogram = steps.histogram
    return [sum(histogram[position:]) for position in range(1, len(histogram))]
