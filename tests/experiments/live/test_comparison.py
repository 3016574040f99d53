"""Two instruments are compared where both have looked, and doubts stay visible."""

from __future__ import annotations

from pathlib import Path

import pytest

from paceline.experiments.live.comparison import Pair, pairs, plot, result_line
from paceline.experiments.live.showing import comparison, table
from paceline.experiments.live.showing import result_line as rows_line
from paceline.experiments.results import Instrument, Row, System
from paceline.experiments.rows import Results
from paceline.experiments.specification import Experiment, TargetSpec
from paceline.speculation.fields import FieldError
from tests.experiments.live.recorded import row

DOUBTED = {"valid": "no: late"}


def results(*rows: Row, name: str = "test") -> Results:
    return Results(Experiment(name, TargetSpec("m", "H200")), rows)


def found() -> list[Pair]:
    first = results(
        row(System.ALONE, 50.0, Instrument.SIMULATED),
        row(System.TREES, 100.0, Instrument.SIMULATED, {"seed": 1}),
        row(System.TREES, 100.0, Instrument.SIMULATED, {"seed": 2}),
        row(System.PEARL, 90.0, Instrument.SIMULATED),
    )
    second = results(
        row(System.TREES, 60.0, settings={"seed": 2}, notes=dict(DOUBTED)),
        row(System.TREES, 94.0, settings={"seed": 1}, notes={"valid": "yes"}),
        row(System.ALONE, 56.0),
        row(System.LOOKUPS, 70.0),
    )
    return pairs(first, second)


def test_rows_of_the_same_system_and_settings_are_pairs() -> None:
    assert [(pair.name, round(pair.percent, 6), pair.valid) for pair in found()] == [
        ("target alone", 12.0, True),
        ("Paceline's trees: seed=1", -6.0, True),
        ("Paceline's trees: seed=2", -40.0, False),
    ]


def test_the_last_line_tells_doubted_pairs_apart() -> None:
    assert result_line(found()) == (
        "RESULT pairs=3 valid=2 within_10_percent=1 mean_percent=9.00 worst_percent=12.00 worst_of_all_percent=40.00"
    )
    assert "valid=0 within_10_percent=0 mean_percent=nan worst_percent=nan" in result_line(found()[2:])


def test_what_cannot_be_compared_is_refused() -> None:
    with pytest.raises(FieldError, match="results of the same experiment, test"):
        pairs(results(row()), results(row(), name="other"))
    with pytest.raises(FieldError, match="systems and settings in common"):
        pairs(results(row(System.ALONE)), results(row(System.TREES)))


def test_tables_have_every_row_and_its_doubts() -> None:
    shown = comparison("test", found())
    assert shown.row_count == 3
    assert list(shown.columns[-1].cells) == ["yes", "yes", "no"]
    rows = [row(), row(notes=dict(DOUBTED) | {"failed": 2})]
    assert list(table("test", rows).columns[-1].cells) == ["", "no: late"]
    assert rows_line(rows) == "RESULT rows=2 doubted=1 failed_requests=2 best_trees_tokens_per_second=100.0"


def test_a_plot_shows_every_pair_and_hollow_ones_where_there_is_doubt(tmp_path: Path) -> None:
    plot(found(), tmp_path / "a.svg")
    drawn = (tmp_path / "a.svg").read_text()
    for name in (
        "target alone",
        "Paceline's trees",
        "doubted",
        "seed=1",
        "seed=2",
        "tokens/s, simulated",
        "tokens/s, emulated",
    ):
        assert name in drawn
    plot(found(), tmp_path / "b.svg")
    assert "<dc:date>" not in drawn
