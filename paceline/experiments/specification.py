"""What an experiment is about: a target, drafters, the wire between them, a workload, what is good enough, a sweep.

One YAML file (``paceline/experiments/specs/*.yaml``) is read by the simulator, the emulation and the measurement alike.
Times are milliseconds and prices dollars per hour, as people write them; tables are named in ``data/``.
"""

from __future__ import annotations

from dataclasses import dataclass, field

LOW, MID, HIGH = "low", "mid", "high"
PRICES = (LOW, MID, HIGH)


@dataclass(frozen=True)
class TargetSpec:
    """The large model. ``step_time`` names a table of ``data/step_times.csv``, milliseconds by rows of a step; empty:
    the one of this model, card and ``tensor_parallel``."""

    model: str
    card: str
    tensor_parallel: int = 1
    step_time: str = ""
    prefill_tokens_per_second: float = 10_000.0
    context_ms_per_1k: float = 0.0
    """What a step takes more for each 1,024 tokens of context, of all its sessions together."""
    replicas: int = 1
    price_per_hour: float = 0.0
    """Of one card, whether prices are low or high; 0: by the prices' file."""


@dataclass(frozen=True)
class DrafterSpec:
    """A pool of drafters of one kind.

    ``forward_ms`` is one growth for one session, ``per_session_ms`` what each further session in it costs; both 0: by
    the table that ``step_time`` names, or else the one of this model (a look-up's kind) and card. ``colocated``: on the
    target's own card, whose steps wait for its forwards.
    """

    kind: str = "model"
    model: str = ""
    card: str = ""
    step_time: str = ""
    forward_ms: float = 0.0
    per_session_ms: float = 0.0
    replicas: int = 1
    cards_each: float = 1.0
    """Share of a card that each takes; 0: of machines that are there anyway."""
    acceptance: str = ""
    """Names a profile of ``data/acceptance.csv``; empty: the workload's, of a look-up Spec-Bench's for its kind."""
    colocated: bool = False
    price_per_hour: float = 0.0
    """Of one card, whether prices are low or high; 0: by the prices' file."""


@dataclass(frozen=True)
class NetworkSpec:
    """Between drafters and verifiers; gRPC's own time is part of the round trip."""

    round_trip_ms: float = 0.5
    jitter_ms: float = 0.0
    bandwidth_mbps: float = 10_000.0


@dataclass(frozen=True)
class WorkloadSpec:
    """Who asks for what. ``requests_per_second`` 0: ``sessions`` of them are always there (a closed loop)."""

    requests: int = 100
    requests_per_second: float = 0.0
    sessions: int = 1
    prompt_tokens: int = 512
    output_tokens: int = 256
    lengths: str = "fixed"
    """``fixed``, or ``exponential`` with these means."""
    acceptance: str = "humaneval"
    """A profile of ``data/acceptance.csv``, ``alpha=0.8``, or ``trace=FILE``: accepted lengths, recorded."""


@dataclass(frozen=True)
class SloSpec:
    """What is good enough; tokens of requests that miss it are no goodput."""

    ttft_ms: float = 2_000.0
    tpot_ms: float = 50.0


@dataclass(frozen=True)
class Experiment:
    """Sections that fit together. ``sweep`` maps dotted keys, as ``network.round_trip_ms``, to the values they take;
    all combinations are run. ``prices`` is a file like ``data/prices.yaml``, for the cards that it names."""

    name: str
    target: TargetSpec
    about: str = ""
    seed: int = 1
    prices: str = ""
    drafters: dict[str, DrafterSpec] = field(default_factory=dict)
    network: NetworkSpec = field(default_factory=NetworkSpec)
    workload: WorkloadSpec = field(default_factory=WorkloadSpec)
    slo: SloSpec = field(default_factory=SloSpec)
    sweep: dict[str, tuple[float | int | str, ...]] = field(default_factory=dict)
