"""Specifications: read, swept, and refused with every mistake at once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from paceline.errors import FieldError
from paceline.experiments import reading
from paceline.experiments.reading import parse_experiment, read_experiment
from paceline.experiments.specification import Experiment
from paceline.experiments.sweeps import configurations, sweepable

SPECS = sorted((Path(reading.__file__).parent / "specs").glob("*.yaml"))
HERE = Path()


def spec(**sections: Any) -> dict[str, Any]:
    """A good one, with other sections."""
    target = {"model": "Llama-3.1-70B", "card": "H200", "tensor_parallel": 2}
    small = {"kind": "model", "model": "Llama-3.2-1B", "card": "RTX4090"}
    return {"name": "x", "target": target, "drafters": {"small": small}, **sections}


def parse(**sections: Any) -> Experiment:
    return parse_experiment(spec(**sections), HERE)


def errors(**sections: Any) -> dict[str, FieldError]:
    with pytest.raises(FieldError) as found:
        parse(**sections)
    said = [str(error) for error in found.value.errors]
    assert len(said) == len(set(said))
    return {error.field: error for error in found.value.errors}


# -- what is right -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("file", SPECS, ids=lambda file: file.stem)
def test_ready_experiments_can_be_run(file: Path) -> None:
    experiment = read_experiment(file)
    assert experiment.name == file.stem
    assert len(list(configurations(experiment))) > 1


def test_the_ready_experiments_are_those_that_are_promised() -> None:
    promised = ["cpu-ngram-only", "emulation-check", "l4-drafters-h100-70b", "load-sweep", "one-drafter-many-verifiers"]
    assert [file.stem for file in SPECS] == [*promised, "rtt-sweep", "spot-4090-drafters"]


def test_a_sweep_is_every_combination_the_last_key_fastest() -> None:
    experiment = parse(sweep={"workload.sessions": [1, 8], "drafters.small.card": ["L4", "T4"], "seed": [3]})
    found = list(configurations(experiment))
    assert [tuple(settings.values()) for settings, _ in found] == [
        (1, "L4", 3),
        (1, "T4", 3),
        (8, "L4", 3),
        (8, "T4", 3),
    ]
    for settings, each in found:
        pool = each.drafters["small"]
        assert (each.workload.sessions, pool.card, each.seed) == tuple(settings.values())
        assert pool.step_time == f"llama-3.2-1b-{pool.card.lower()}"
        assert each.sweep == {}


def test_without_a_sweep_there_is_one_with_the_names_of_its_tables() -> None:
    ((settings, each),) = configurations(parse())
    assert settings == {}
    assert (each.target.step_time, each.drafters["small"].step_time) == ("llama-3.1-70b-h200-tp2", "llama-3.2-1b-4090")


def test_a_drafter_beside_the_target_is_on_its_card_and_a_lookup_needs_no_model() -> None:
    pools = {
        "beside": {"model": "Llama-3.2-1B", "colocated": True},
        "lookup": {"kind": "ngram", "card": "CPU-EPYC-32vcpu"},
        "timed": {"forward_ms": 3, "cards_each": 0},
    }
    ((_, each),) = configurations(parse(drafters=pools))
    assert (each.drafters["beside"].card, each.drafters["beside"].step_time) == ("H200", "llama-3.2-1b-h200")
    assert each.drafters["lookup"].step_time == "ngram-cpu"
    assert (each.drafters["timed"].forward_ms, each.drafters["timed"].step_time) == (3.0, "")


def test_every_key_of_every_section_can_be_swept() -> None:
    """And takes the value that the experiment has already."""
    experiment = parse()
    for key in sweepable(experiment):
        value: Any = experiment
        for name in key.split("."):
            value = value[name] if isinstance(value, dict) else getattr(value, name)
        ((settings, each),) = configurations(parse(sweep={key: [value]}))
        assert settings == {key: value}
        assert each == next(configurations(experiment))[1]


def test_files_lie_beside_the_specification(tmp_path: Path) -> None:
    (tmp_path / "runs.txt").write_text("4 0 2")
    (tmp_path / "mine.yaml").write_text("cards: {L4: {low: 0, mid: 0, high: 0}}")
    data = spec(workload={"acceptance": "trace=runs.txt"}, prices="mine.yaml")
    data["sweep"] = {"drafters.small.acceptance": ["trace=runs.txt", "mid"]}
    file = tmp_path / "x.yaml"
    file.write_text(yaml.safe_dump(data))
    experiment = read_experiment(file)
    assert experiment.workload.acceptance == f"trace={tmp_path / 'runs.txt'}"
    assert experiment.prices == str(tmp_path / "mine.yaml")
    assert experiment.sweep["drafters.small.acceptance"] == (f"trace={tmp_path / 'runs.txt'}", "mid")


# -- what is wrong -----------------------------------------------------------------------------------------------------


def test_everything_wrong_is_said_at_once_and_once() -> None:
    found = errors(
        target={"model": "Llama-3.1-70B", "card": "H200", "tensor_parallel": 3, "price_per_hour": -1, "replica": 2},
        drafters={
            "a": {"model": "Llama-3.2-1B", "card": "L5"},
            "b": {"model": "Llama-3.2-1B", "card": "L4", "acceptance": "alpha=1.2", "kind": "modle"},
            "c": {"model": "Llama-3.2-1B", "card": "L4", "forward_ms": -2},
        },
        network={"round_trip_ms": "near"},
        workload={"acceptance": "humanevl", "lengths": "long", "sessions": 0},
        slo={"tpot_ms": 0},
        sweep={"network.rtt": [1], "workload.sessions": [2, 4, 0, "x"], "drafters.a.replicas": []},
        nmae="y",
    )
    assert set(found) == {
        "target.step_time", "target.price_per_hour", "target.replica", "drafters.a.card", "drafters.b.acceptance",
        "drafters.b.kind", "drafters.c.forward_ms", "network.round_trip_ms", "workload.acceptance", "workload.lengths",
        "workload.sessions", "slo.tpot_ms", "sweep.network.rtt", "sweep.workload.sessions",
        "sweep.drafters.a.replicas", "nmae",
    }  # fmt: skip
    assert "llama-3.1-70b" not in str(found["target.step_time"])  # nothing is measured on three cards
    assert "'L5': expected one of the cards T4, L4" in str(found["drafters.a.card"])
    assert "alpha=1.2" in str(found["drafters.b.acceptance"])
    assert "did you mean humaneval" in str(found["workload.acceptance"])
    assert "did you mean name" in str(found["nmae"])


@pytest.mark.parametrize(
    ("sections", "field"),
    [
        ({"target": {"model": "m", "card": "H200", "tensor_parallel": 2}}, "target.step_time"),
        ({"target": {"model": "m", "card": "H200", "step_time": "llama-3.1-70b-h100-tp4"}}, "target.step_time"),
        ({"drafters": {"a": {"model": "Llama-3.2-1B"}}}, "drafters.a.card"),
        (
            {"drafters": {"a": {"model": "Llama-3.2-1B", "card": "L4", "per_session_ms": 1}}},
            "drafters.a.per_session_ms",
        ),
        ({"drafters": {"a": {"forward_ms": 3}}}, "drafters.a.card"),
        ({"drafters": {"a": {"model": "Llama-3.2-1B", "card": "L4", "colocated": True}}}, "drafters.a.card"),
        ({"drafters": {"a": {"kind": "ngram", "forward_ms": 1, "colocated": True}}}, "drafters.a.colocated"),
        ({"drafters": {"a.b": {"forward_ms": 3, "cards_each": 0}}}, "drafters.a.b"),
        (
            {"drafters": {"a": {"model": "Llama-3.2-1B", "card": "L4", "forward_ms": float("nan")}}},
            "drafters.a.forward_ms",
        ),
        ({"network": {"bandwidth_mbps": 0}}, "network.bandwidth_mbps"),
        ({"workload": {"acceptance": "trace=nowhere"}}, "workload.acceptance"),
        ({"prices": "nowhere.yaml"}, "prices"),
        ({"name": ""}, "name"),
        ({"seed": "x"}, "seed"),
        ({"sweep": {"workload.sessions": 3}}, "sweep.workload.sessions"),
        ({"sweep": {"workload.sessions": [3, 3]}}, "sweep.workload.sessions"),
        ({"sweep": {"workload.lengths": ["long"]}}, "sweep.workload.lengths"),
        ({"sweep": {"name": ["a", "b"]}}, "sweep.name"),
        ({"sweep": {"drafters.other.replicas": [1]}}, "sweep.drafters.other.replicas"),
        ({"sweep": [1]}, "sweep"),
        ({"drafters": [1]}, "drafters"),
    ],
)
def test_one_thing_wrong_is_one_error(sections: dict[str, Any], field: str) -> None:
    found = errors(**sections)
    assert list(found) == [field]
    assert "expected" in str(found[field])


def test_a_sweep_that_leads_where_no_table_is_says_where() -> None:
    """Each value may be good by itself."""
    found = errors(sweep={"target.card": ["H200", "H100-SXM"], "target.tensor_parallel": [2, 4]})
    assert set(found) == {"target.step_time"}
    parse(sweep={"target.card": ["H200"], "target.tensor_parallel": [2]})


@pytest.mark.parametrize("data", [None, [], "x", {}])
def test_no_specification_at_all(data: Any) -> None:
    with pytest.raises(FieldError):
        parse_experiment(data, HERE)


def test_missing_sections_are_named() -> None:
    with pytest.raises(FieldError) as found:
        parse_experiment({"drafters": {}}, HERE)
    assert [error.field for error in found.value.errors] == ["name", "target"]
