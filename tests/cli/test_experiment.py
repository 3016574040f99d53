"""``paceline experiment``: specifications checked, predictions held against published speeds."""

from __future__ import annotations

import re
from pathlib import Path

import yaml
from typer.testing import CliRunner, Result

from paceline.cli.main import app
from paceline.experiments import reading
from paceline.experiments.rows import write_results
from tests.experiments.report.formulas import results_of

SPECS = Path(reading.__file__).parent / "specs"


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["experiment", *map(str, arguments)])


def test_a_good_specification_passes() -> None:
    file = SPECS / "rtt-sweep.yaml"
    result = run("check", file)
    assert (result.exit_code, result.output) == (0, f"{file}: 0 errors, 27 configurations\n")


def test_everything_wrong_is_said_at_once(tmp_path: Path) -> None:
    data = yaml.safe_load((SPECS / "rtt-sweep.yaml").read_text())
    data["target"]["card"] = "H300"
    data["drafters"]["far"]["price_per_hour"] = -1
    data["workload"]["acceptance"] = "alpha=2"
    data["sweep"] = {"network.rtt": [1]}
    file = tmp_path / "x.yaml"
    file.write_text(yaml.safe_dump(data))
    result = run("check", file)
    assert result.exit_code == 2
    *lines, last = result.output.splitlines()
    assert [line.split(" = ")[0] for line in lines] == [
        "error: drafters.far.price_per_hour", "error: sweep.network.rtt", "error: target.card",
        "error: drafters.beside.card", "error: workload.acceptance",
    ]  # fmt: skip
    assert last == f"{file}: 5 errors"


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    result = run("check", tmp_path / "nowhere.yaml")
    assert result.exit_code == 2
    assert "expected a file" in result.output


def test_validate_ends_with_its_result() -> None:
    result = run("validate")
    assert result.exit_code == 0
    number = r"\d+\.\d\d"
    names = ("pearl_b1_mape", "pearl_b1_max", "pearl_batch_mape", "ssd_mape")
    assert re.fullmatch("RESULT " + " ".join(f"{name}={number}" for name in names), result.output.splitlines()[-1])
    for said in ("Fitted on the pair's other three tasks", "from the run's own mean accepted tokens", "Not gated"):
        assert said in result.output


def test_a_report_of_results_and_a_table_of_their_rows(tmp_path: Path) -> None:
    write_results(tmp_path / "a.json", results_of("rtt-sweep"))
    write_results(tmp_path / "b.json", results_of("spot-4090-drafters"))
    page, table = tmp_path / "r.html", tmp_path / "r.csv"
    result = run("report", tmp_path / "a.json", tmp_path / "b.json", "-o", page, "--csv", table)
    assert (result.exit_code, result.output) == (0, f"{page}: 204 rows of 2 experiments\n")
    assert all(f"<h2>{name} " in page.read_text() for name in ("rtt-sweep", "spot-4090-drafters"))
    assert len(table.read_text().splitlines()) == 1 + 204


def test_a_report_of_files_that_are_no_results_names_each_and_writes_nothing(tmp_path: Path) -> None:
    broken, missing, page = tmp_path / "broken.json", tmp_path / "missing.json", tmp_path / "r.html"
    broken.write_text("{}")
    result = run("report", broken, missing, "-o", page)
    assert result.exit_code == 2
    assert f"error: {broken}: experiment = None" in result.output
    assert f"error: results = '{missing}': expected a file" in result.output
    assert not page.exists()


def test_a_report_that_cannot_be_written(tmp_path: Path) -> None:
    write_results(tmp_path / "a.json", results_of("rtt-sweep"))
    result = run("report", tmp_path / "a.json", "-o", tmp_path / "nowhere" / "r.html")
    assert result.exit_code == 2
    assert "No such file" in result.output
