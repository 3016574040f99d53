"""What benchmarks make of their rows."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from paceline.bench.report import Report


def report() -> Report:
    found = Report("test", {"quick": True})
    for repeat, (ours, theirs) in enumerate([(1.0, 2.0), (10.0, 40.0), (3.0, 3.0)]):
        found.add(engine="ours", repeat=repeat, seconds=ours)
        found.add(engine="theirs", repeat=repeat, seconds=theirs)
    return found


def test_ratios_are_taken_within_a_repeat() -> None:
    assert report().ratio("seconds", {"engine": "ours"}, {"engine": "theirs"}) == 0.5
    assert report().median("seconds", engine="ours") == 3.0
    assert math.isnan(report().median("seconds", engine="nobody's"))
    assert math.isnan(report().ratio("seconds", {"engine": "ours"}, {"engine": "nobody's"}))


def test_the_file_says_what_ran_where_and_the_last_line_what_came_of_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    report().finish(tmp_path / "rows.json", a_vs_b=0.5, b=2.0)
    assert capsys.readouterr().out.splitlines()[-1] == "RESULT a_vs_b=0.50 b=2.00"
    content = json.loads((tmp_path / "rows.json").read_text())
    assert content["results"] == {"a_vs_b": 0.5, "b": 2.0}
    assert len(content["rows"]) == 6
    assert content["machine"]["versions"]["torch"]
