"""Files of results: what is written is read, anything else is refused as a whole; and a table of all rows."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from paceline.errors import FieldError
from paceline.experiments.results import System
from paceline.experiments.rows import Results, read_results, rows_from_json, rows_to_csv, rows_to_json, write_results
from paceline.experiments.specification import WorkloadSpec
from tests.experiments.report.formulas import results_of
from tests.experiments.report.made import results

MADE = results(lambda system, _: 0.0 if system is System.PEARL else 100.0)


@pytest.mark.parametrize("spec", ["rtt-sweep", "cpu-ngram-only", "l4-drafters-h100-70b"])
def test_what_is_written_is_read(spec: str, tmp_path: Path) -> None:
    found = results_of(spec)
    write_results(tmp_path / "x.json", found)
    assert read_results(tmp_path / "x.json") == found
    assert [file.name for file in tmp_path.iterdir()] == ["x.json"]


def test_results_say_what_they_rest_upon() -> None:
    found = results_of("spot-4090-drafters")
    assert found.priced_on == "2026-11-22"
    assert found.prices["T4"] == {"low": 0.07, "mid": 0.40, "high": 0.53}
    assert set(found.prices) == {"H200", "RTX4090", "RTX3090", "L40S", "A10G", "L4", "T4"}
    assert found.figures["acceptance cnndm"] == "alpha 0.816, derived"
    (table,) = [kind for name, kind in found.figures.items() if name.endswith("llama-3.1-70b-h200-tp2")]
    assert table == "one row measured, further rows derived"


def test_a_recorded_trace_need_not_be_there_any_more() -> None:
    experiment = replace(MADE.experiment, workload=WorkloadSpec(acceptance="trace=/nowhere/runs.txt"))
    found = replace(MADE, experiment=experiment)
    assert rows_from_json(rows_to_json(found)) == found


Change = Callable[[dict[str, Any]], Any]


@pytest.mark.parametrize(
    ("change", "field"),
    [
        (lambda data: data["rows"][0].update(goodput=-1), "rows[0].goodput"),
        (lambda data: data["rows"][1].update(system="magic"), "rows[1].system"),
        (lambda data: data["rows"][1].update(instrument="guessed"), "rows[1].instrument"),
        (lambda data: data["rows"][2].pop("settings"), "rows[2].settings"),
        (lambda data: data["rows"][2].update(settings={"network.rtt": 1}), "rows[2].settings.network.rtt"),
        (lambda data: data["rows"][0]["tpot_ms"].pop("p90"), "rows[0].tpot_ms.p90"),
        (lambda data: data["rows"][0].update(speed=1), "rows[0].speed"),
        (lambda data: data["rows"][0]["dollars_per_hour"].update(mid=True), "rows[0].dollars_per_hour.mid"),
        (lambda data: data["rows"][0]["notes"].update(x=[1]), "rows[0].notes.x"),
        (lambda data: data["rows"].append(data["rows"][0]), "rows[20]"),
        (lambda data: data["experiment"].update(nmae="x"), "nmae"),
        (lambda data: data["experiment"]["sweep"].update({"network.rtt": [1]}), "sweep.network.rtt"),
        (lambda data: data["prices"]["L4"].update(mid="much"), "prices.L4.mid"),
        (lambda data: data.pop("rows"), "rows"),
        (lambda data: data.update(more=1), "more"),
    ],
)
def test_what_is_wrong_is_named(change: Change, field: str) -> None:
    data = json.loads(rows_to_json(MADE))
    change(data)
    with pytest.raises(FieldError) as raised:
        rows_from_json(json.dumps(data))
    assert [error.field for error in raised.value.errors] == [field]


def test_everything_wrong_is_said_at_once() -> None:
    data = json.loads(rows_to_json(MADE))
    data["rows"][0]["goodput"] = None
    data["rows"][3]["requests"] = "many"
    data["priced_on"] = 5
    with pytest.raises(FieldError) as raised:
        rows_from_json(json.dumps(data))
    assert {error.field for error in raised.value.errors} == {"rows[0].goodput", "rows[3].requests", "priced_on"}


@pytest.mark.parametrize("text", ["", "[]", "{", "{}", "5"])
def test_no_json_or_no_results(text: str) -> None:
    with pytest.raises(FieldError):
        rows_from_json(text)


def test_a_table_has_every_row_and_what_it_costs() -> None:
    other = results(lambda *_: 50.0, {"workload.sessions": (1, 2)}, "other")
    lines = list(csv.DictReader(io.StringIO(rows_to_csv([MADE, other]))))
    rows = [*MADE.rows, *other.rows]
    assert len(lines) == len(rows)
    for line, row in zip(lines, rows, strict=True):
        assert (line["experiment"], line["system"], line["instrument"]) == (
            row.experiment,
            row.system.value,
            "simulated",
        )
        cost = line["dollars_per_million_mid"]
        assert float(cost) == row.dollars_per_million("mid") if row.goodput else cost == ""
    assert lines[0]["settings.network.round_trip_ms"] == "1.0"
    assert lines[0]["settings.workload.sessions"] == ""
    assert lines[-1]["settings.workload.sessions"] == "2"


@pytest.mark.parametrize("name", ["=1+1", "+1", "-1", "@x", "\t=1"])
def test_no_name_is_a_formula_in_a_spreadsheet(name: str) -> None:
    found = results(lambda *_: 1.0, {}, name)
    (line, *_) = csv.DictReader(io.StringIO(rows_to_csv([found])))
    assert line["experiment"] == f"'{name}"


def test_results_without_prices_can_be_read() -> None:
    assert rows_from_json(rows_to_json(Results(MADE.experiment, MADE.rows))).prices == {}


def test_every_error_of_a_file_names_it(tmp_path: Path) -> None:
    file = tmp_path / "x.json"
    file.write_text("{}")
    with pytest.raises(FieldError) as caught:
        read_results(file)
    fields = [error.field for error in caught.value.errors]
    assert f"{file}: experiment" in fields
    assert all(field.startswith(f"{file}: ") for field in fields)
