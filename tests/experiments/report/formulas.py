"""Rows of the closed forms: real figures of the model, without a simulator. There is no closed form of our trees."""

from __future__ import annotations

from pathlib import Path

from paceline.experiments import closed_forms
from paceline.experiments.reading import read_experiment
from paceline.experiments.results import Instrument, Latency, Row, System
from paceline.experiments.rows import Results
from paceline.experiments.specification import PRICES, DrafterSpec, Experiment
from paceline.experiments.sweeps import configurations
from paceline.experiments.tables import Prices, acceptance, prices, step_table

SPECS = Path(closed_forms.__file__).parent / "specs"
WINDOWS = range(1, 17)
HIT = 0.9


def results_of(spec: str) -> Results:
    experiment = read_experiment(SPECS / f"{spec}.yaml")
    paid = prices()
    rows = [row for settings, one in configurations(experiment) for row in _rows(experiment.name, settings, one, paid)]
    return Results.of(experiment, rows)


def _rows(name: str, settings: dict[str, float | int | str], one: Experiment, paid: Prices) -> list[Row]:
    sessions, curve = one.workload.sessions, step_table(one.target.step_time)
    apart = next(pool for pool in one.drafters.values() if not pool.colocated)
    beside = next((pool for pool in one.drafters.values() if pool.colocated), apart)
    alpha = acceptance(apart.acceptance or one.workload.acceptance).alpha
    trip = one.network.round_trip_ms

    def step(rows: float) -> float:
        return curve(max(1, round(sessions * rows)))

    def draft(pool: DrafterSpec) -> float:
        return step_table(pool.step_time)(sessions)

    def cached(window: int) -> float:
        tokens, drafted = closed_forms.chain_tokens(alpha, window), window * draft(apart) / (step(window + 1) + trip)
        round_ms = HIT * max(1.0, drafted) + (1 - HIT) * (1 + drafted)
        return tokens / (round_ms * (step(window + 1) + trip))

    speeds = {
        System.ALONE: 1 / step(1),
        System.COLOCATED: max(
            closed_forms.chain_tokens(alpha, window) / (step(window + 1) + window * draft(beside)) for window in WINDOWS
        ),
        System.PEARL: max(
            closed_forms.pearl_tokens(alpha, window)
            / closed_forms.pearl_round_ms(window, draft(apart), step(closed_forms.pearl_rows(alpha, window)), trip)
            for window in WINDOWS
        ),
        System.OUTCOMES: max(map(cached, WINDOWS)),
    }
    return [_row(name, settings, one, system, speed, paid, apart) for system, speed in speeds.items()]


def _row(
    name: str, settings: dict[str, float | int | str], one: Experiment, system: System, speed: float, paid: Prices,
    apart: DrafterSpec,
) -> Row:  # fmt: skip
    """``speed`` in tokens per millisecond, of a session."""
    tokens, latency = (
        1000 * speed * one.workload.sessions * one.target.replicas,
        Latency(1 / speed, 1 / speed, 1 / speed),
    )
    drafting = apart.replicas * apart.cards_each if system in {System.PEARL, System.OUTCOMES} else 0.0
    cards = one.target.tensor_parallel * one.target.replicas
    dollars = {price: cards * paid[one.target.card][price] + drafting * paid[apart.card][price] for price in PRICES}
    prefill = 1000 * one.workload.prompt_tokens / one.target.prefill_tokens_per_second
    return Row(
        name, system, Instrument.CLOSED_FORM, settings, tokens, tokens if 1 / speed <= one.slo.tpot_ms else 0.0,
        Latency(prefill, prefill, prefill), latency, 1.0, one.workload.requests, dollars,
    )  # fmt: skip
