"""Launch or wait, and the rhythm that the decision rests on."""

from __future__ import annotations

import math

import pytest

from paceline.speculation.estimate import Calibration, MovingAverage
from paceline.speculation.policy import DraftOutlook, Rhythm, SpeculationParameters, seconds_to_wait


def test_waits_only_while_it_pays() -> None:
    promising = DraftOutlook(gains=(0.8,), due_in=0.002, interval=0.002)
    assert seconds_to_wait([promising], rate=300) == pytest.approx(0.003)
    assert seconds_to_wait([promising], rate=500) == 0
    assert seconds_to_wait([], rate=0) == 0


def test_never_waits_for_a_drafter_past_its_usual_time_and_a_grace() -> None:
    assert seconds_to_wait([DraftOutlook(gains=(5.0,), due_in=-0.002, interval=0.002)], rate=1) == 0
    assert seconds_to_wait([DraftOutlook(gains=(5.0,), due_in=-0.0005, interval=0.002)], rate=1) == pytest.approx(
        0.0005
    )


def test_one_promising_drafter_is_enough_to_wait() -> None:
    useless = DraftOutlook(gains=(0.0,), due_in=0.001, interval=0.001)
    assert seconds_to_wait([useless, DraftOutlook(gains=(1.0,), due_in=0.001, interval=0.001)], rate=200) > 0


def test_rhythm_expects_the_next_message_when_the_last_ones_came() -> None:
    rhythm = Rhythm(100_000.0)
    assert rhythm.outlook(100_000.0) is None
    for start in (100_000.0, 100_001.0):
        rhythm.verdict(start, left=0.0)
        rhythm.nodes(start + 0.010, gain=0.6)
        rhythm.nodes(start + 0.014, gain=0.2)
    rhythm.verdict(100_002.0, left=0.0)
    first = rhythm.outlook(100_002.004)
    assert first is not None
    assert [*first.gains, first.due_in] == pytest.approx([0.6, 0.2, 0.006])
    rhythm.nodes(100_002.010, gain=0.6)
    second = rhythm.outlook(100_002.011)
    assert second is not None
    assert [*second.gains, second.due_in, second.interval] == pytest.approx([0.2, 0.003, 0.004])


def test_a_drafter_that_falls_silent_is_soon_waited_for_no_more() -> None:
    rhythm = Rhythm(0.0)
    rhythm.nodes(0.01, gain=1.0)
    for turn in range(1, 40):
        rhythm.verdict(float(turn), left=0.0)
    outlook = rhythm.outlook(39.0)
    assert outlook is not None
    assert outlook.gains[0] < 0.05


def test_what_follows_on_its_heels_makes_a_far_message_worth_waiting_for() -> None:
    assert seconds_to_wait([DraftOutlook(gains=(0.6,), due_in=0.05, interval=0.004)], rate=20) == 0
    assert seconds_to_wait([DraftOutlook(gains=(0.6, 0.5, 0.3), due_in=0.05, interval=0.004)], rate=20) > 0


def test_hits_and_misses_are_remembered_apart() -> None:
    rhythm, now = Rhythm(0.0), 0.0
    for left, gain, first in ((0.0, 0.8, 0.02), (0.9, 0.3, 0.01), (2.0, 0.1, 0.004)) * 3:
        rhythm.verdict(now, left=left)
        rhythm.nodes(now + first, gain)
        now += 1.0
    for left, gain, first in ((0.0, 0.8, 0.02), (0.9, 0.3, 0.01), (2.0, 0.1, 0.004)):
        rhythm.verdict(now, left=left)
        outlook = rhythm.outlook(now)
        assert outlook is not None
        assert (outlook.gains[0], outlook.due_in) == pytest.approx((gain, first))


def test_what_was_never_seen_with_little_left_is_expected_as_with_nothing_left() -> None:
    rhythm = Rhythm(0.0)
    rhythm.verdict(0.0, left=0.0)
    rhythm.nodes(0.01, gain=0.9)
    rhythm.verdict(1.0, left=2.0)
    assert rhythm.outlook(1.0) is None
    rhythm.verdict(1.0, left=0.9)
    outlook = rhythm.outlook(1.0)
    assert outlook is not None
    assert [*outlook.gains, outlook.due_in] == pytest.approx([0.9, 0.01])
    rhythm.nodes(1.03, gain=0.1)
    rhythm.verdict(2.0, left=0.9)
    outlook = rhythm.outlook(2.0)
    assert outlook is not None
    assert [*outlook.gains, outlook.due_in] == pytest.approx([0.1, 0.03])


def test_an_unknown_drafter_is_doubted_once_for_a_path() -> None:
    """Half of what it says is believed; where its own nodes above are taken to be accepted, more."""
    unknown = Calibration()
    factors = [math.exp(unknown.trust(above, 0.9 * above)) for above in range(16)]
    assert factors[0] == pytest.approx(0.5)
    assert factors == sorted(factors)
    assert factors[-1] > 0.9
    assert 0.03 < math.prod(0.9 * factor for factor in factors) < 0.06, "0.45 at every node would leave 3e-6"


def test_what_is_known_of_a_drafter_outweighs_what_it_says_of_its_path() -> None:
    liar = Calibration()
    for _ in range(100):
        liar.add(expected=2.0, accepted=0.0, tested=4)
    assert math.exp(liar.trust(3, 2.7)) < 0.1


def test_calibration_believes_what_has_come_true() -> None:
    honest, liar = Calibration(), Calibration()
    assert honest.factor == 0.5
    for _ in range(100):
        honest.add(expected=2.0, accepted=2.0, tested=4)
        liar.add(expected=2.0, accepted=0.0, tested=4)
    assert honest.factor == pytest.approx(1.0, abs=0.05)
    assert liar.factor == pytest.approx(0.0, abs=0.05)
    assert honest.error == pytest.approx(0.0, abs=0.02)
    assert liar.error == pytest.approx(0.5, abs=0.02), "each of four nodes was said to be accepted by one half"


def test_moving_average_starts_at_its_first_value() -> None:
    average = MovingAverage(weight=0.5)
    assert average.get(7.0) == 7.0
    average.add(2.0)
    average.add(4.0)
    assert average.get(7.0) == 3.0


@pytest.mark.parametrize("field", ["draft_depth", "draft_width"])
def test_parameters_are_bounded(field: str) -> None:
    with pytest.raises(ValueError, match=f"{field} = 0: expected 1 to 64"):
        SpeculationParameters(**{field: 0})  # type: ignore[arg-type]
