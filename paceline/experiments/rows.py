"""Files of results: all rows of one run of one experiment, with what they rest upon; and rows as a table."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from paceline.experiments import tables
from paceline.experiments.results import Row
from paceline.experiments.row_reading import RowReader
from paceline.experiments.specification import PRICES, DrafterSpec, Experiment, TargetSpec
from paceline.experiments.sweeps import changed, configurations, resolved
from paceline.speculation.fields import FieldError, FieldErrors


@dataclass(frozen=True)
class Results:
    """What ``paceline experiment simulate``, ``emulate`` and ``measure`` write, and the report reads.

    ``prices``: of the experiment's cards, ``priced_on`` their date. ``figures``: the tables and profiles that went in,
    and what each is: measured, derived or a planning value.
    """

    experiment: Experiment
    rows: tuple[Row, ...]
    prices: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    priced_on: str = ""
    figures: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, experiment: Experiment, rows: Sequence[Row]) -> Results:
        """With today's prices and figures of the experiment."""
        own = Path(experiment.prices) if experiment.prices else None
        parts = [part for _, found in configurations(experiment) for part in _parts(found)]
        known = tables.prices(own)
        prices = {part.card: known[part.card] for part in parts if part.card in known}
        return cls(experiment, tuple(rows), prices, tables.priced_on(own), _figures(experiment))

    def configuration(self, row: Row) -> Experiment:
        """The experiment with the values of a row's settings."""
        return resolved(changed(self.experiment, row.settings))


def rows_to_json(results: Results) -> str:
    """The same results give the same bytes. A million tokens' ``dollars_per_million`` is null without goodput."""
    plain = {
        "experiment": dataclasses.asdict(results.experiment),
        "prices": {card: dict(price) for card, price in results.prices.items()},
        "priced_on": results.priced_on,
        "figures": dict(results.figures),
        "rows": [_plain(row) for row in results.rows],
    }
    return json.dumps(plain, indent=1, allow_nan=False) + "\n"


def rows_from_json(text: str, name: str = "results") -> Results:
    """What ``rows_to_json`` wrote, every key, type and range checked; every error at once."""
    try:
        data = json.loads(text)
    except ValueError as error:
        raise FieldError(name, text[:40], f"JSON ({error})") from error
    reader = RowReader()
    top = reader.known(Results, "", reader.mapping(name, data))
    for key in ("experiment", "rows"):
        if key not in top and isinstance(data, dict):
            reader.note(key, None, "a value")
    experiment = reader.experiment(top.get("experiment") or {})
    results = Results(
        experiment,
        reader.rows(top.get("rows", []), experiment),
        {
            card: reader.numbers(f"prices.{card}", price, PRICES)
            for card, price in reader.mapping("prices", top.get("prices", {})).items()
        },
        reader.value("priced_on", top.get("priced_on", ""), str, ""),
        {
            figure: reader.value(f"figures.{figure}", kind, str, "")
            for figure, kind in reader.mapping("figures", top.get("figures", {})).items()
        },
    )
    if reader.errors:
        raise reader.errors[0] if len(reader.errors) == 1 else FieldErrors(reader.errors)
    return results


def read_results(file: Path) -> Results:
    """What a file holds; every error names it."""
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise FieldError("results", str(file), f"a file that can be read ({reason})") from error
    try:
        return rows_from_json(text)
    except FieldError as wrong:
        named = [FieldError(f"{file}: {error.field}", error.value, error.expected) for error in wrong.errors]
        raise FieldErrors(named) from wrong


def write_results(file: Path, results: Results) -> None:
    write_text(file, rows_to_json(results))


def write_text(file: Path, text: str) -> None:
    """All of it, or what was there before."""
    beside = file.with_name(f".{file.name}.{os.getpid()}")
    try:
        beside.write_text(text, encoding="utf-8")
        beside.replace(file)
    finally:
        beside.unlink(missing_ok=True)


def rows_to_csv(every: Iterable[Results]) -> str:
    """One line for each row of all results; columns that a row knows nothing of are empty."""
    lines = [_line(results, row) for results in every for row in results.rows]
    columns = list(dict.fromkeys(column for line in lines for column in line))
    columns.sort(key=lambda column: (column.startswith("notes."), not column.startswith("settings.")))
    first = ("experiment", "seed", "priced_on", "instrument", "system")
    columns = [*first, *(column for column in columns if column not in first)]
    file = io.StringIO()
    writer = csv.DictWriter(file, columns, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows({column: _cell(value) for column, value in line.items()} for line in lines)
    return file.getvalue()


def _plain(row: Row) -> dict[str, Any]:
    plain = dataclasses.asdict(row) | {"system": row.system.value, "instrument": row.instrument.value}
    costs = {price: row.dollars_per_million(price) for price in PRICES}
    return plain | {
        "dollars_per_million": {price: cost if math.isfinite(cost) else None for price, cost in costs.items()}
    }


def _line(results: Results, row: Row) -> dict[str, float | int | str]:
    return {
        "experiment": row.experiment,
        "seed": results.experiment.seed,
        "priced_on": results.priced_on,
        "instrument": row.instrument.value,
        "system": row.system.value,
        **{f"settings.{key}": value for key, value in row.settings.items()},
        "tokens_per_second": row.tokens_per_second,
        "goodput": row.goodput,
        **{f"ttft_ms_{name}": value for name, value in dataclasses.asdict(row.ttft_ms).items()},
        **{f"tpot_ms_{name}": value for name, value in dataclasses.asdict(row.tpot_ms).items()},
        "tokens_per_step": row.tokens_per_step,
        "requests": row.requests,
        **{f"dollars_per_hour_{price}": row.dollars_per_hour[price] for price in PRICES},
        **{f"dollars_per_million_{price}": row.dollars_per_million(price) for price in PRICES},
        **{f"notes.{key}": value for key, value in row.notes.items()},
    }


def _cell(value: float | int | str) -> float | int | str:
    """No text that a spreadsheet would take for a formula; an infinite cost is empty."""
    if isinstance(value, str):
        return f"'{value}" if value[:1] in {"=", "+", "-", "@", "\t", "\r"} else value
    return value if math.isfinite(value) else ""


def _parts(experiment: Experiment) -> list[TargetSpec | DrafterSpec]:
    return [experiment.target, *experiment.drafters.values()]


def _figures(experiment: Experiment) -> dict[str, str]:
    found: dict[str, str] = {}
    for _, configuration in configurations(experiment):
        for part in _parts(configuration):
            if table := tables.step_tables().get(part.step_time):
                one, *further = dict.fromkeys(table.kinds)
                rest = f", further rows {' and '.join(further)}" if further else ""
                found[f"step of {table.model} on {table.card}, {table.name}"] = f"one row {one}{rest}"
        used = (configuration.workload.acceptance, *(pool.acceptance for pool in configuration.drafters.values()))
        for name in filter(None, used):
            profile = tables.acceptance(name)
            found[f"acceptance {Path(name).name if name.startswith(tables.TRACE) else name}"] = (
                f"alpha {profile.alpha:.3g}, {profile.kind}"
            )
    return found
