"""One row of results, the same from every instrument, with what it was: modelled, emulated or measured."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum


class System(Enum):
    """What is compared, always all of it: at equal hardware, and at equal dollars."""

    ALONE = "target alone"
    COLOCATED = "draft on the target's card"
    """Ordinary speculative decoding, draft and target in turn on one machine: the honest rival."""
    PEARL = "PEARL chain"
    """A drafter apart, one chain, overlapped."""
    OUTCOMES = "outcome cache (SSD)"
    """A drafter apart that drafts ahead for the likely verdicts."""
    TREES = "Paceline's trees"
    LOOKUPS = "Paceline with CPU drafters only"


class Instrument(Enum):
    """Where a row's figures come from."""

    CLOSED_FORM = "closed form"
    SIMULATED = "simulated"
    FAST = "simulated, aggregated"
    EMULATED = "emulated"
    MEASURED = "measured"


@dataclass(frozen=True)
class Latency:
    """Milliseconds, over requests."""

    p50: float
    p90: float
    p99: float


@dataclass(frozen=True)
class Row:
    """One configuration of one system.

    ``dollars_per_hour`` by ``low``, ``mid`` and ``high`` price. ``goodput`` is tokens/s of requests within the SLO; a
    million tokens cost what an hour costs over the goodput of an hour: idle drafters and late tokens are paid for.
    """

    experiment: str
    system: System
    instrument: Instrument
    settings: Mapping[str, float | int | str]
    """Of the sweep."""
    tokens_per_second: float
    goodput: float
    ttft_ms: Latency
    tpot_ms: Latency
    tokens_per_step: float
    """Of a session, next token included."""
    requests: int
    dollars_per_hour: Mapping[str, float]
    notes: Mapping[str, float | int | str] = field(default_factory=dict)
    """Whatever else an instrument has to say: rows per step, verifier's wait, drafters' idle time."""

    def dollars_per_million(self, price: str) -> float:
        """Infinite without goodput."""
        return 1e6 * self.dollars_per_hour[price] / (3600 * self.goodput) if self.goodput > 0 else float("inf")
