"""Workers are replaced so that the rest of their pool goes on."""

from __future__ import annotations

from dataclasses import dataclass, replace

from paceline.cluster.ray.needs import Needs
from paceline.cluster.ray.rolling import to_replace
from paceline.cluster.ray.spec import WorkerSpec


@dataclass(frozen=True)
class Seen:
    spec: WorkerSpec
    serves: bool = True
    waits: bool = False


def spec(name: str, pool: str = "big", words: str = "new") -> WorkerSpec:
    return WorkerSpec(name, pool, "verifier_service", [words], Needs())


def old(name: str, pool: str = "big", *, serves: bool = True) -> Seen:
    return Seen(spec(name, pool, "old"), serves)


WANTED = {name: spec(name) for name in ("a", "b", "c")}


def test_who_is_as_wanted_stays() -> None:
    assert to_replace({name: Seen(spec) for name, spec in WANTED.items()}, WANTED) == []


def test_one_at_a_time_and_none_before_the_one_in_its_place_serves() -> None:
    assert to_replace({name: old(name) for name in WANTED}, WANTED) == ["a"]
    assert to_replace({"b": old("b"), "c": old("c")}, WANTED) == []
    assert to_replace({"a": Seen(spec("a"), serves=False), "b": old("b"), "c": old("c")}, WANTED) == []
    assert to_replace({"a": Seen(spec("a")), "b": old("b"), "c": old("c")}, WANTED) == ["b"]


def test_pools_wait_for_no_other_pool() -> None:
    wanted = {"a": spec("a"), "x": spec("x", "small"), "y": spec("y", "small")}
    assert to_replace({"a": old("a", serves=False), "x": old("x", "small"), "y": old("y", "small")}, wanted) == [
        "a",
        "x",
    ]


def test_who_cannot_start_is_replaced_before_who_serves() -> None:
    failing = Seen(spec("a", words="bad"), serves=False)
    assert to_replace({"a": failing, "b": old("b"), "c": old("c")}, WANTED) == ["a"]


def test_who_waits_for_a_place_is_given_one() -> None:
    waiting = Seen(spec("a"), serves=False, waits=True)
    assert to_replace({"a": waiting, "b": old("b"), "c": old("c")}, WANTED) == ["b"]


def test_other_needs_are_other_workers() -> None:
    assert to_replace({"a": old("a")}, {"a": replace(spec("a", words="old"), needs=Needs(cpus=2))}) == ["a"]


def test_who_is_not_wanted_is_not_replaced() -> None:
    assert to_replace({"d": old("d")}, {}) == []
