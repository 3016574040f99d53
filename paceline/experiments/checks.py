"""What is wrong with an experiment whose types are right: numbers out of range, and what the tables do not have."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from drafter_service.config import KINDS
from paceline.cluster.topology import MODEL_KINDS
from paceline.experiments.specification import DrafterSpec, Experiment, TargetSpec
from paceline.experiments.sweeps import SECTIONS
from paceline.experiments.tables import acceptance, cards, prices, step_tables
from paceline.speculation.fields import Checks, FieldError, known_names

Rule = tuple[Callable[[Any], bool], str]
LENGTHS = ("fixed", "exponential")


def _one_of(names: tuple[str, ...]) -> Rule:
    return lambda value: value in names, f"one of {', '.join(names)}"


_SOME: Rule = lambda value: 0 <= value < math.inf, "0 or more"
_MORE: Rule = lambda value: 0 < value < math.inf, "more than 0"
_ONE: Rule = lambda value: value >= 1, "at least 1"
_NAME: Rule = bool, "a name"
_RULES: dict[str, dict[str, Rule]] = {
    "target": {
        "model": _NAME, "tensor_parallel": _ONE, "prefill_tokens_per_second": _MORE, "context_ms_per_1k": _SOME,
        "replicas": _ONE, "price_per_hour": _SOME,
    },
    "drafters": {
        "kind": _one_of(KINDS), "forward_ms": _SOME, "per_session_ms": _SOME, "replicas": _SOME, "cards_each": _SOME,
        "price_per_hour": _SOME,
    },
    "network": {"round_trip_ms": _SOME, "jitter_ms": _SOME, "bandwidth_mbps": _MORE},
    "workload": {
        "requests": _ONE, "requests_per_second": _SOME, "sessions": _ONE, "prompt_tokens": _ONE, "output_tokens": _ONE,
        "lengths": _one_of(LENGTHS),
    },
    "slo": {"ttft_ms": _MORE, "tpot_ms": _MORE},
}  # fmt: skip


def out_of_range(experiment: Experiment) -> list[FieldError]:
    """Values that no experiment can have."""
    checks = Checks()
    checks.require(bool(experiment.name), "name", experiment.name, "a name")
    parts = [(name, name, getattr(experiment, name)) for name in SECTIONS]
    parts += [("drafters", f"drafters.{name}", pool) for name, pool in experiment.drafters.items()]
    for rules, key, part in parts:
        for name, (right, expected) in _RULES[rules].items():
            value = getattr(part, name)
            checks.require(right(value), f"{key}.{name}", value, expected)
    for name in experiment.drafters:
        checks.require(bool(name) and "." not in name, f"drafters.{name}", name, "a name without a dot")
    return checks.errors


def misfits(experiment: Experiment) -> list[FieldError]:
    """What does not fit together, or is not in ``data/``, of an experiment without a sweep."""
    checks = Checks()
    if experiment.prices:
        with checks.caught():
            prices(Path(experiment.prices))
    _check_target(experiment.target, checks)
    for name, pool in experiment.drafters.items():
        _check_pool(f"drafters.{name}", pool, experiment.target, checks)
    with checks.caught():
        acceptance(experiment.workload.acceptance, "workload.acceptance")
    return checks.errors


def _check_target(target: TargetSpec, checks: Checks) -> None:
    if _check_card("target.card", target.card, checks):
        _check_table("target", target, target.tensor_parallel, checks)


def _check_pool(key: str, pool: DrafterSpec, target: TargetSpec, checks: Checks) -> None:
    """Only a pool that costs nothing by the hour, or says what it costs, and how long it takes, may leave out its
    card."""
    timed = pool.forward_ms > 0
    needed = not timed or (pool.cards_each > 0 and pool.price_per_hour == 0)
    known = _check_card(f"{key}.card", pool.card, checks) if pool.card or needed else False
    if known and not timed:
        _check_table(key, pool, 1, checks)
    spare = timed or pool.per_session_ms == 0
    checks.require(spare, f"{key}.per_session_ms", pool.per_session_ms, f"0 without {key}.forward_ms")
    if pool.colocated:
        same = pool.card in ("", target.card)
        checks.require(same, f"{key}.card", pool.card, f"the target's, {target.card}, or colocated: false")
        able = pool.kind in MODEL_KINDS
        checks.require(able, f"{key}.colocated", pool.colocated, f"false for kind {pool.kind}, which needs no card")
    if pool.acceptance:
        with checks.caught():
            acceptance(pool.acceptance, f"{key}.acceptance")


def _check_card(key: str, card: str, checks: Checks) -> bool:
    known = cards()
    return checks.require(card in known, key, card, f"one of the cards {known_names(known, card)}")


def _check_table(key: str, part: TargetSpec | DrafterSpec, parallel: int, checks: Checks) -> None:
    """That there is one, and that it is of this card."""
    table = step_tables().get(part.step_time)
    where = f"{part.card}, tensor parallel {parallel}"
    if table is None:
        model = part.model or getattr(part, "kind", "")
        said = f"the name of a table of {where}: {', '.join(_tables_on(part.card, parallel)) or 'there is none'}"
        expected = said if part.step_time else f"{said} (none of model {model!r} is there)"
        checks.require(False, f"{key}.step_time", part.step_time, expected)  # noqa: FBT003
    else:
        fits = (table.card, table.tensor_parallel) == (part.card, parallel)
        has = f"{table.card}, tensor parallel {table.tensor_parallel}"
        checks.require(fits, f"{key}.step_time", part.step_time, f"a table of {where} (this is one of {has})")


def _tables_on(card: str, parallel: int) -> Iterator[str]:
    return (table.name for table in step_tables().values() if (table.card, table.tensor_parallel) == (card, parallel))
