"""The data: whole, consistent with what it is derived from, and refused when wrong."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
import yaml

from paceline.errors import FieldError
from paceline.experiments import tables
from paceline.experiments.specification import PRICES

DERIVED = {
    "llama-3.1-70b-h100-tp4": ("H100", "Llama-2-70B", "4", 1.0),
    "llama-3.1-70b-h200-tp2": ("H100", "Llama-2-70B", "2", 3350 / 4800),
    "qwen2.5-72b-h200-tp2": ("H100", "Llama-2-70B", "2", 3350 / 4800),
    "qwen3-32b-h200-tp2": ("H100", "Llama-2-70B", "2", 3350 / 4800),
    "qwen3-32b-h100-tp4": ("H100", "Llama-2-70B", "4", 1.0),
    "llama-3.1-8b-h100": ("H100", "Llama-2-7B", "1", 1.0),
    "llama-3.1-8b-a100-40": ("A100", "Llama-3-8B", "1", 1.0),
    "llama-3.1-70b-a100-tp4": ("A100", "Llama-3-70B", "4", 1.0),
    "llama-3.1-70b-l40s-tp4": ("A40", "Llama-2-70B", "4", 1.0),
}


def rows(name: str) -> list[dict[str, str]]:
    with (tables.DATA / name).open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("name", DERIVED)
def test_targets_tables_are_one_row_times_the_profiled_curve(name: str) -> None:
    gpu, model, parallel, scale = DERIVED[name]
    profile = next(
        row for row in rows("verify_cost.csv") if (row["gpu"], row["model"], row["tp"]) == (gpu, model, parallel)
    )
    curve = {max(1, round(int(key[4:]) * scale)): float(profile[key]) for key in reversed(profile) if key[:4] == "rel_"}
    table = tables.step_tables()[name]
    first = table.milliseconds[0][1]
    assert dict(table.milliseconds) == pytest.approx({count: first * curve[count] for count in curve}, abs=0.006)


def test_every_table_says_what_its_figures_are_and_is_of_a_card_with_a_price() -> None:
    prices = tables.prices()
    assert set(prices) == set(tables.cards())
    for table in tables.step_tables().values():
        assert table.card in prices
        assert set(table.kinds) <= set(tables.KINDS)
        assert table.milliseconds[0][0] == 1
        assert tables.table_of(table.model, table.card, table.tensor_parallel) == table.name
    assert all(row["source"] for name in ("cards.csv", "step_times.csv", "acceptance.csv") for row in rows(name))


def test_step_table_is_in_milliseconds_and_never_falls() -> None:
    curve = tables.step_table("llama-3.1-70b-h100-tp4")
    assert curve(1) == 18.28
    times = [curve(count) for count in range(1, 600)]
    assert times == sorted(times)
    with pytest.raises(FieldError, match=r"did you mean llama-3.1-70b-h100-tp4"):
        tables.step_table("llama-3.1-70b-h100-tp8")


def test_acceptance_by_name_by_number_and_as_recorded(tmp_path: Path) -> None:
    assert tables.acceptance("humaneval").alpha == 0.922
    assert tables.acceptance("alpha=0.25").alpha == 0.25
    trace = tmp_path / "runs.txt"
    trace.write_text("3\n0\n5\n0\n")
    found = tables.acceptance(f"trace={trace}")
    assert (found.runs, found.alpha, found.kind) == ((3, 0, 5, 0), 8 / 12, tables.MEASURED)
    assert all(0 < profile.alpha < 1 and profile.kind in tables.KINDS for profile in tables.profiles().values())


@pytest.mark.parametrize("name", ["alpha=1.01", "alpha=-1", "alpha=nan", "alpha=", "humanevl", "trace=/nowhere", ""])
def test_no_other_acceptance(name: str) -> None:
    with pytest.raises(FieldError):
        tables.acceptance(name)


@pytest.mark.parametrize("text", ["", "3\n-1\n", "3\nx\n", "0.5\n"])
def test_a_trace_is_of_whole_numbers(tmp_path: Path, text: str) -> None:
    (tmp_path / "runs.txt").write_text(text)
    with pytest.raises(FieldError, match="whole numbers"):
        tables.acceptance(f"trace={tmp_path / 'runs.txt'}")


def test_prices_of_ones_own_for_the_cards_they_name(tmp_path: Path) -> None:
    own = tmp_path / "mine.yaml"
    own.write_text(yaml.safe_dump({"cards": {"L4": {"low": 0, "mid": 0.1, "high": 0.2}}}))
    found, usual = tables.prices(own), tables.prices()
    assert found["L4"] == {"low": 0, "mid": 0.1, "high": 0.2}
    assert {card: found[card] for card in found if card != "L4"} == {
        card: usual[card] for card in usual if card != "L4"
    }
    assert all(list(price) == list(PRICES) for price in usual.values())


def test_every_wrong_price_is_said_at_once(tmp_path: Path) -> None:
    own = tmp_path / "mine.yaml"
    cards = {
        "L5": {"low": 1, "mid": 1, "high": 1},
        "L4": {"low": -1, "mid": "x", "high": 1, "hihg": 1},
        "T4": {"low": 2, "mid": 1, "high": 3},
        "H200": 3,
    }
    own.write_text(yaml.safe_dump({"cards": cards}))
    with pytest.raises(FieldError) as found:
        tables.prices(own)
    fields = [error.field for error in found.value.errors]
    assert sorted(fields) == sorted(
        ["prices.L5", "prices.L4.hihg", "prices.L4.low", "prices.L4.mid", "prices.T4", "prices.H200"]
    )


@pytest.mark.parametrize("text", ["", "cards: [1]", "[]"])
def test_prices_are_a_mapping(tmp_path: Path, text: str) -> None:
    (tmp_path / "mine.yaml").write_text(text)
    with pytest.raises(FieldError, match="a mapping of cards to prices"):
        tables.prices(tmp_path / "mine.yaml")
