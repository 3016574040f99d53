"""What is compared with what: alternatives of one scenario, along one axis at a time."""

from __future__ import annotations

from dataclasses import replace

import pytest

from paceline.experiments.report.axes import axis
from paceline.experiments.report.charts import choices, on_front
from paceline.experiments.report.study import Study, spread, study
from paceline.experiments.results import System
from tests.experiments.report.formulas import results_of
from tests.experiments.report.made import made

SWEEP: dict[str, tuple[float | int | str, ...]] = {
    "drafters.far.card": ("L4", "T4"),
    "network.round_trip_ms": (1.0, 5.0),
    "workload.acceptance": ("low", "high"),
    "workload.sessions": (1, 4),
}


def test_what_is_given_is_not_compared_and_what_is_chosen_is() -> None:
    """Round trip and acceptance are given; card and load are chosen."""
    scenarios = made(lambda *_: 100.0, SWEEP).scenarios()
    assert len(scenarios) == 2 * 2
    for key, these in scenarios.items():
        assert {name for name, _ in key} == {"network.round_trip_ms", "workload.acceptance"}
        assert {(one.settings["drafters.far.card"], one.settings["workload.sessions"]) for one in these} == {
            ("L4", 1), ("L4", 4), ("T4", 1), ("T4", 4),
        }  # fmt: skip


def test_a_front_is_of_its_scenario_alone() -> None:
    """What is best at high acceptance does not hide what is best at low."""
    found = study(results_of("spot-4090-drafters"))
    for these in found.scenarios().values():
        every = choices(these)
        assert {id(row) for _, row in every} <= {id(row) for one in these for row in one.rows.values()}
        points = [(row.tpot_ms.p50, row.dollars_per_million("mid")) for _, row in every]
        best = [(row.tpot_ms.p50, row.dollars_per_million("mid")) for _, row in on_front(every)]
        assert best == sorted(best)
        assert min(cost for _, cost in points) == best[-1][1]
        assert min(points)[0] == best[0][0]


def test_a_series_differs_in_its_axis_alone_and_rises() -> None:
    found = made(lambda *_: 100.0, SWEEP)
    for one in found.axes:
        if one.numbers:
            every = found.series(one)
            assert sum(len(series.configurations) for series in every) == len(found.configurations) == 16
            for series in every:
                places = [one.number(each.settings[one.key]) for each in series.configurations]
                assert places == sorted(places)
                rest = {tuple(sorted({**each.settings, one.key: 0}.items())) for each in series.configurations}
                assert len(rest) == 1


def test_acceptance_is_ordered_by_what_it_is_not_by_its_name() -> None:
    found = axis("workload.acceptance", ("high", "alpha=0.75", "low"))
    assert found.values == ("low", "alpha=0.75", "high")
    assert found.numbers == (0.7, 0.75, 0.9)


@pytest.mark.parametrize(
    ("key", "values"),
    [
        ("workload.acceptance", ("mid", "trace=/nowhere/runs.txt")),
        ("drafters.far.card", ("L4", "T4")),
        ("workload.acceptance", ("humaneval", "llama-3.2-1b/humaneval")),  # the same figure
        ("seed", (1, 2)),
    ],
)
def test_what_has_no_order_is_no_axis_to_interpolate_on(key: str, values: tuple[str | int, ...]) -> None:
    assert axis(key, values).numbers == ()


def test_the_question_is_about_our_trees_or_else_the_cheapest_that_drafts_apart() -> None:
    found = made(lambda system, _: {System.PEARL: 300.0, System.OUTCOMES: 200.0}.get(system, 100.0))
    assert found.subject is System.TREES

    def without(*systems: System) -> Study:
        rows = tuple(row for row in found.results.rows if row.system not in systems)
        return Study(replace(found.results, rows=rows))

    assert without(System.TREES).subject is System.PEARL
    assert without(System.TREES, System.PEARL).subject is System.OUTCOMES
    assert without(System.TREES, System.PEARL, System.OUTCOMES).subject is None


@pytest.mark.parametrize(("count", "most", "expected"), [(3, 5, [0, 1, 2]), (9, 3, [0, 4, 8]), (10, 2, [0, 9])])
def test_of_many_some_are_shown_the_first_and_last_among_them(count: int, most: int, expected: list[int]) -> None:
    assert spread(range(count), most) == expected
