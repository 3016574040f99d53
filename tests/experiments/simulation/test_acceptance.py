"""The text and who is right about it are settled by seed and position."""

from __future__ import annotations

import itertools

import pytest

from paceline.experiments.simulation.acceptance import NO_RANK, Profile, Text
from paceline.speculation.fields import FieldError

LENGTH = 20_000


def test_ranks_come_as_often_as_the_profile_says() -> None:
    profile = Profile.of(0.7, further=0.5)
    ranks = Text(5, LENGTH).ranks(profile)
    for rank, chance in enumerate(profile.ranks, 1):
        assert ranks.count(rank) / LENGTH == pytest.approx(chance, abs=4 * (chance / LENGTH) ** 0.5)
    assert ranks.count(NO_RANK) / LENGTH == pytest.approx(0.3 * 0.5**5, abs=0.002)


def test_a_longer_text_goes_on_as_the_shorter_one() -> None:
    profile = Profile.of(0.8)
    assert Text(7, 100).ranks(profile) == Text(7, 300).ranks(profile)[:100]
    assert Text(7, 100).tokens == Text(7, 300).tokens[:100]
    assert Text(7, 100).tokens != Text(8, 100).tokens


def test_who_is_right_more_often_is_right_wherever_the_other_is() -> None:
    text = Text(3, LENGTH)
    better, worse = (text.ranks(Profile.of(alpha)) for alpha in (0.9, 0.6))
    assert all(b == 1 for b, w in zip(better, worse, strict=True) if w == 1)


def test_recorded_runs_are_replayed_around_and_around() -> None:
    runs = (3, 0, 5)
    ranks = Text(11, 400).ranks(Profile.of(8 / 11, runs=runs))
    found = [len(list(group)) for right, group in itertools.groupby(rank == 1 for rank in ranks) if right]
    assert set(found[1:-1]) == {3, 5}
    assert sum(rank == 1 for rank in ranks) / 400 == pytest.approx(8 / 11, abs=0.02)


def test_two_keys_begin_the_record_elsewhere() -> None:
    profile = Profile.of(0.5, runs=tuple(range(20)))
    assert len({tuple(Text(key, 30).ranks(profile)) for key in range(8)}) > 1


def test_chances_beyond_one_are_refused() -> None:
    with pytest.raises(FieldError):
        Profile((0.7, 0.4))
