"""Flags of an emulated fleet say what the specification says, as the services read them."""

from __future__ import annotations

from pathlib import Path

import pytest

from paceline.emulation import EmulatedLink, Pace
from paceline.experiments.live.fleet import LOOPBACK_MS, acceptance_of, drafter_pace, target_pace, topology, wire_of
from paceline.experiments.simulation.acceptance import Profile
from paceline.experiments.simulation.machines import Machines, Pool, Target, Wire
from paceline.experiments.tables import step_table
from paceline.synthetic import SyntheticDrafts

TARGET = Target(step_table("llama-3.1-70b-h200-tp2"), 8000.0, context_ms_per_1k=0.05)


def test_a_target_takes_what_its_table_says() -> None:
    pace = Pace.parse(target_pace(TARGET))
    assert pace is not None
    for rows, prompt_rows, context in ((1, 0, 0), (5, 0, 700), (33, 100, 4096), (0, 256, 0), (900, 0, 0)):
        expected = TARGET.seconds(rows, prompt_rows, context)
        assert pace.seconds(rows, prompt_rows=prompt_rows, context=context) == pytest.approx(expected, rel=1e-4)


def test_drafters_take_what_their_table_or_their_forward_takes() -> None:
    timed = Pool("a", "model", Profile.of(0.8), forward_ms=4.5, per_session_ms=0.2)
    table = Pool("b", "model", Profile.of(0.8), table_ms=step_table("llama-3.2-1b-4090"))
    for pool, sessions, rows in ((timed, 1, 8), (timed, 5, 40), (table, 1, 1), (table, 3, 200)):
        pace = Pace.parse(drafter_pace(pool))
        assert pace is not None
        assert pace.seconds(rows, sessions=sessions) == pytest.approx(pool.seconds(sessions, rows), rel=1e-4)


def test_a_wire_is_as_long_as_asked_for_with_what_grpc_takes_by_itself() -> None:
    link = EmulatedLink.parse(wire_of(Wire(10.0, 1.5, 200.0)))
    assert link is not None
    assert link.rtt_seconds == pytest.approx(1e-3 * (10.0 - LOOPBACK_MS))
    assert link.jitter_seconds == pytest.approx(1.5e-3)
    assert link.bits_per_second == pytest.approx(200e6)
    near = EmulatedLink.parse(wire_of(Wire(0.1)))
    assert near is not None
    assert near.rtt_seconds == 0.0


def test_drafters_are_right_as_often_as_their_profile_says(tmp_path: Path) -> None:
    def read(profile: Profile) -> SyntheticDrafts:
        drafts = SyntheticDrafts.parse(acceptance_of(profile, tmp_path / "runs"))
        assert drafts is not None
        return drafts

    for profile in (Profile.of(0.82, 0.3), Profile.of(0.0), Profile.of(1.0)):
        assert list(read(profile).said(1, 3)) == pytest.approx(profile.said(3))
    assert read(Profile.of(0.75, 0.4, runs=(3, 0, 6))).runs == (3, 0, 6)


def test_the_fleet_has_the_specification_s_replicas(tmp_path: Path) -> None:
    pools = (Pool("spot", "model", Profile.of(0.8), 4.5, replicas=3), Pool("cpu", "ngram", Profile.of(0.4), 0.2))
    made = topology(Machines(Target(TARGET.step_ms, replicas=2), pools), tmp_path, tmp_path)
    assert sum(pool.replicas for pool in made.verifiers.values()) == 2
    assert {name: (pool.kind, pool.replicas) for name, pool in made.drafters.items()} == {
        "spot": ("model", 3),
        "cpu": ("ngram", 1),
    }
    assert made.gateway.http == -1
