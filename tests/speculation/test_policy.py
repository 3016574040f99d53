"""Launch or wait, and the rhythm that the decision rests on."""

from __future__ import annotations

import pytest

from paceline.speculation.estimate import MovingAverage
from paceline.speculation.policy import DraftOutlook, Rhythm, SpeculationParameters, seconds_to_wait


def test_waits_only_while_it_pays() -> None:
    promising = DraftOutlook(gain=0.8, due_in=0.002, interval=0.002)
    assert seconds_to_wait([promising], rate=300) == pytest.approx(0.003)
    assert seconds_to_wait([promising], rate=500) == 0
    assert seconds_to_wait([], rate=0) == 0


def test_never_waits_for_a_drafter_past_its_usual_time_and_a_grace() -> None:
    assert seconds_to_wait([DraftOutlook(gain=5.0, due_in=-0.002, interval=0.002)], rate=1) == 0
    assert seconds_to_wait([DraftOutlook(gain=5.0, due_in=-0.0005, interval=0.002)], rate=1) == pytest.approx(0.0005)


def test_one_promising_drafter_is_enough_to_wait() -> None:
    useless = DraftOutlook(gain=0.0, due_in=0.001, interval=0.001)
    assert seconds_to_wait([useless, DraftOutlook(gain=1.0, due_in=0.001, interval=0.001)], rate=200) > 0


def test_rhythm_expects_the_next_message_when_the_last_ones_came() -> None:
    rhythm = Rhythm()
    assert rhythm.outlook(0.0) is None
    for start in (0.0, 1.0):
        rhythm.verdict(start)
        rhythm.nodes(start + 0.010, gain=0.6)
        rhythm.nodes(start + 0.014, gain=0.2)
    rhythm.verdict(2.0)
    first = rhythm.outlook(2.004)
    assert first is not None
    assert [first.gain, first.due_in] == pytest.approx([0.6, 0.006])
    rhythm.nodes(2.010, gain=0.6)
    second = rhythm.outlook(2.011)
    assert second is not None
    assert [second.gain, second.due_in, second.interval] == pytest.approx([0.2, 0.003, 0.004])


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
