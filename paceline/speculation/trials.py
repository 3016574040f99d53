"""Whether a drafter earns its keep, found out by doing without it for a while.

What drafting costs is more than a step's rows: cores, caches and event loops that drafter and verifier share. So now
and then one drafter is switched, on or off, for a few dozen steps, and the tokens per second of that stretch are
compared with those of the stretches before and after. Steps are the clock; nothing here knows of time or sessions.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Collection
from dataclasses import dataclass, field
from enum import Enum

WINDOW = 32
"""Steps of a stretch that are compared; with some two tokens a step its rate is known to a tenth."""
LEAST = 8
"""Steps that every stretch has."""
SETTLE = 4
"""Steps after a switch that do not count: a drafter catches up, or its last nodes are used up."""
FIRST_GAP, LONGEST_GAP = 24, 6144
"""Steps between two trials of a drafter; four times as many whenever a trial confirms what is known."""
BAND = 1.7
"""A stretch of n texts' steps whose rate is off by more than BAND / sqrt(n), as a logarithm, needs no more."""
PLAINLY = 1.2
"""Where drafting brings so many times what the target could do alone, the first trial can wait."""
MARGIN = 0.02
"""A drafter is switched for good only when it is so much better or worse than none, as a logarithm."""
_WEIGHT = 0.5
_LEVEL_WEIGHT, _HYSTERESIS = 0.3, 0.75


class _Phase(Enum):
    STEADY = "steady"
    SWITCHED = "switched"
    BACK = "back"


@dataclass
class Opinion:
    """What is known of one drafter with about so many sessions running."""

    on: bool = True
    gain: float | None = None
    """Logarithm of the rate with it over the rate without; None before the first trial."""
    gap: int = FIRST_GAP
    due: int = FIRST_GAP

    def put_off(self) -> bool:
        """Puts the first trial off, once; whether that was still to be had."""
        first = self.gain is None and self.gap == FIRST_GAP
        if first:
            self.gap = self.due = 8 * FIRST_GAP
        return first

    def learn(self, gain: float) -> None:
        """After a trial."""
        self.gain = gain if self.gain is None else self.gain + _WEIGHT * (gain - self.gain)
        confirmed = (gain > 0) is self.on
        self.on = self.gain > (-MARGIN if self.on else MARGIN)
        self.gap = min(4 * self.gap, LONGEST_GAP) if confirmed else FIRST_GAP
        self.due = self.gap


@dataclass
class _Stretch:
    """The last steps of one kind; ``rate`` is their tokens per second."""

    steps: deque[tuple[int, float]] = field(default_factory=lambda: deque(maxlen=WINDOW))

    def add(self, tokens: int, seconds: float) -> None:
        self.steps.append((tokens, seconds))

    @property
    def full(self) -> bool:
        return len(self.steps) == WINDOW

    def differs_from(self, other: _Stretch, sessions: int) -> bool:
        """Clearly so, without more steps; the more sessions, the less chance is in a step."""
        count = len(self.steps)
        if count < LEAST or min(self.rate, other.rate) <= 0:
            return False
        return abs(math.log(self.rate / other.rate)) > BAND / math.sqrt(count * min(sessions, LEAST))

    @property
    def rate(self) -> float:
        return sum(tokens for tokens, _ in self.steps) / max(sum(seconds for _, seconds in self.steps), 1e-9)


class Trials:
    """Tries drafters one at a time. ``on`` says whether a drafter is to draft now."""

    def __init__(self) -> None:
        self._opinions: dict[tuple[str, int], Opinion] = {}
        self._level, self._crowd = 0.0, 0  # of the logarithm of the number of sessions: smoothed, and as it counts
        self._alone_rate = math.inf
        self._tried: str | None = None
        self._phase, self._skip = _Phase.STEADY, SETTLE
        self._stretches = {phase: _Stretch() for phase in _Phase}

    def usual(self, drafter_id: str) -> bool:
        """Whether this drafter drafts with so many sessions running, except in a trial."""
        return self._known(drafter_id).on

    def pays(self, drafter_id: str) -> bool:
        """False once two trials have found that it is faster without this drafter: one may be wrong."""
        known = self._known(drafter_id)
        return known.on or known.gap <= FIRST_GAP

    def on(self, drafter_id: str) -> bool:
        """Whether this drafter drafts in the coming steps."""
        switched = self._phase is _Phase.SWITCHED and self._tried == drafter_id
        return self.usual(drafter_id) is not switched

    def gain(self, drafter_id: str) -> float | None:
        """Logarithm of the rate with it over the rate without, at the present number of sessions; None: not known."""
        return self._known(drafter_id).gain

    def step(
        self, drafters: Collection[str], sessions: int, tokens: int, seconds: float, alone_seconds: float = 0.0
    ) -> None:
        """A step of so many sessions emitted so many tokens; ``drafters`` are those attached to them.

        ``alone_seconds`` is what a step without drafts takes at best; 0: not known.
        """
        self._alone_rate = sessions / alone_seconds if alone_seconds > 0 else math.inf
        self._level += _LEVEL_WEIGHT * (math.log2(sessions) - self._level)
        moved = abs(self._level - self._crowd) > _HYSTERESIS
        if moved or (self._tried is not None and self._tried not in drafters):
            self._crowd = round(self._level)
            self._start_over()
        for drafter_id in drafters:
            self._opinion(drafter_id).due -= 1
        if self._skip:
            self._skip -= 1
            return
        stretch = self._stretches[self._phase]
        stretch.add(tokens, seconds)
        if self._phase is _Phase.SWITCHED and stretch.differs_from(self._stretches[_Phase.STEADY], sessions):
            self._conclude()
        elif stretch.full or (self._phase is _Phase.STEADY and len(stretch.steps) >= WINDOW // 2):
            self._go_on(drafters)

    def _opinion(self, drafter_id: str) -> Opinion:
        """To be learned with about as many sessions."""
        return self._opinions.setdefault((drafter_id, self._crowd), Opinion())

    def _known(self, drafter_id: str) -> Opinion:
        """What is known with about as many sessions, or with the number nearest to it; a new one is given a chance."""
        tried = [
            (abs(crowd - self._crowd), crowd)
            for (name, crowd), opinion in self._opinions.items()
            if name == drafter_id and opinion.gain is not None
        ]
        return self._opinions[drafter_id, min(tried)[1]] if tried else Opinion()

    def _go_on(self, drafters: Collection[str]) -> None:
        match self._phase:
            case _Phase.STEADY:
                self._begin(drafters)
            case _Phase.SWITCHED:
                self._phase, self._skip = _Phase.BACK, SETTLE
            case _Phase.BACK:
                self._conclude()

    def _begin(self, drafters: Collection[str]) -> None:
        due = [drafter_id for drafter_id in sorted(drafters) if self._opinion(drafter_id).due <= 0]
        if self._stretches[_Phase.STEADY].rate > PLAINLY * self._alone_rate:
            due = [drafter_id for drafter_id in due if not self._opinion(drafter_id).put_off()]
        if due:
            self._tried = min(due, key=lambda drafter_id: self._opinion(drafter_id).due)
            self._phase, self._skip = _Phase.SWITCHED, SETTLE

    def _conclude(self) -> None:
        assert self._tried is not None, "somebody was tried"
        opinion, usual_on = self._opinion(self._tried), self.usual(self._tried)
        before, after = self._stretches[_Phase.STEADY], self._stretches[_Phase.BACK]
        usual = (before.rate + after.rate) / 2 if after.full else before.rate
        switched = self._stretches[_Phase.SWITCHED].rate
        if min(usual, switched) > 0:
            gain = math.log(usual / switched)
            opinion.on = usual_on
            opinion.learn(gain if usual_on else -gain)
        self._start_over()

    def _start_over(self) -> None:
        self._tried, self._phase, self._skip = None, _Phase.STEADY, SETTLE
        self._stretches = {phase: _Stretch() for phase in _Phase}
