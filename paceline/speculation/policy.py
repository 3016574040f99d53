"""When to launch a step: plain functions of online estimates, run alike by services and simulator."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum

from paceline.speculation.estimate import MovingAverage
from paceline.speculation.fields import require

LOCKSTEP_TIMEOUT_SECONDS = 0.05
MAX_NAME, MAX_NAMES = 256, 64
NO_SCOPE = "none"
"""The cache scope of sessions that share nothing with any other."""
GRACE = 0.5
"""A drafter is waited for up to so much of its usual interval past the time it is usually heard of."""
_REMEMBERED_MESSAGES = 8


class Mode(Enum):
    OVERLAPPED = "overlapped"
    LOCKSTEP = "lockstep"
    OFF = "off"


class Shape(Enum):
    TREE = "tree"
    CHAIN = "chain"


@dataclass(frozen=True)
class SpeculationParameters:
    """How one session speculates. ``drafters`` None: the gateway chooses; empty: nobody drafts.

    ``prediction`` is the client's guess at the text, for drafters that look things up. With ``events`` the client is
    told who guessed each token, and what happened when.
    """

    mode: Mode = Mode.OVERLAPPED
    shape: Shape = Shape.TREE
    max_draft_nodes: int = 12
    draft_depth: int = 8
    draft_width: int = 3
    drafters: tuple[str, ...] | None = None
    cache_scope: str = ""
    prediction: str = ""
    events: bool = False

    def __post_init__(self) -> None:
        require(0 <= self.max_draft_nodes <= 256, "max_draft_nodes", self.max_draft_nodes, "0 to 256")
        require(1 <= self.draft_depth <= 64, "draft_depth", self.draft_depth, "1 to 64")
        require(1 <= self.draft_width <= 64, "draft_width", self.draft_width, "1 to 64")
        scope, names = self.cache_scope, self.drafters or ()
        require(len(scope) <= MAX_NAME, "cache_scope", f"{len(scope)} characters", f"at most {MAX_NAME}")
        distinct = len(names) == len(set(names)) <= MAX_NAMES and all(len(name) <= MAX_NAME for name in names)
        expected = f"at most {MAX_NAMES} distinct names of at most {MAX_NAME} characters"
        require(distinct, "drafters", names[:3], expected)

    def prefix_scope(self, session_id: str) -> str:
        """Who may share the session's prefix blocks: its cache scope, or nobody else."""
        return f"{NO_SCOPE} {session_id}" if self.cache_scope == NO_SCOPE else self.cache_scope


@dataclass(frozen=True)
class DraftOutlook:
    """What one drafter is expected to add to a session's next step, message by message.

    ``gains`` are the expected emitted tokens that its coming messages bring, ``due_in`` the seconds until the first of
    them (negative: late), ``interval`` the usual seconds between two.
    """

    gains: tuple[float, ...]
    due_in: float
    interval: float


def seconds_to_wait(outlooks: Iterable[DraftOutlook], rate: float) -> float:
    """How long a step should wait for drafts; 0: launch now.

    The marginal-value rule: wait only while waiting brings more tokens per second than the session usually emits
    (``rate``, its long-run tokens per second), be it with the next message or with the next few together: after a miss
    the first one has a long way and the others follow on its heels. A drafter is never waited for past its usual time
    and a grace.
    """
    return max((_worth_waiting(outlook, rate) for outlook in outlooks), default=0.0)


def _worth_waiting(outlook: DraftOutlook, rate: float) -> float:
    grace = GRACE * outlook.interval
    due = max(outlook.due_in, grace)
    total = 0.0
    for gain in outlook.gains:
        total += gain
        if total > rate * due:
            return max(0.0, outlook.due_in + grace)
        due += outlook.interval
    return 0.0


class _Left(Enum):
    """What a verdict has left below the root."""

    NOTHING = "nothing"
    LITTLE = "less than one expected token"
    MUCH = "more"

    @classmethod
    def of(cls, expected: float) -> _Left:
        return cls.NOTHING if expected <= 0 else cls.LITTLE if expected < 1 else cls.MUCH


class Rhythm:
    """When a drafter's messages come after a verdict, and what each of them has been worth.

    Kept apart for verdicts that left nothing below the root, little, and much: after a miss the first messages bring
    much, after a hit they only deepen what is there.
    """

    def __init__(self, now: float) -> None:
        self._interval = MovingAverage()
        self._first = {left: MovingAverage() for left in _Left}
        self._gains = {left: [MovingAverage() for _ in range(_REMEMBERED_MESSAGES)] for left in _Left}
        self._verdict_at, self._last_at, self._messages, self._left = now, now, 0, _Left.NOTHING

    def verdict(self, now: float, left: float) -> None:
        """A verdict is being sent: the drafter starts afresh; ``left``: tokens expected below the root still.

        A message that was due and did not come was worth nothing, nor were those that would have followed it, so that
        a drafter that slows down or falls silent is soon waited for no more.
        """
        expected = self.outlook(now)
        if expected is not None and expected.due_in < 0:
            for gain in self._gains[self._left][self._slot :][: len(expected.gains)]:
                gain.add(0.0)
        self._verdict_at, self._messages, self._left = now, 0, _Left.of(left)

    def nodes(self, now: float, gain: float) -> None:
        """A message has come whose new nodes add ``gain`` expected tokens."""
        if self._messages == 0:
            self._first[self._left].add(now - self._verdict_at)
        else:
            self._interval.add(now - self._last_at)
        self._gains[self._left][self._slot].add(gain)
        self._last_at, self._messages = now, self._messages + 1

    def outlook(self, now: float) -> DraftOutlook | None:
        """The coming messages as experience has it; None when there is none yet.

        What has never been seen where little was left is expected to be as where nothing was.
        """
        unseen = self._left is _Left.LITTLE and self._first[_Left.LITTLE].value is None
        like = _Left.NOTHING if unseen else self._left
        gains = self._gains[like][self._slot :]
        known: list[float] = []
        for gain in gains:
            if gain.value is None:
                break
            known.append(gain.value)
        interval, first = self._interval.value, self._first[like].value
        if not known or first is None:
            return None
        if self._messages == 0:
            return DraftOutlook(tuple(known), self._verdict_at + first - now, interval or first)
        if interval is None:
            return None
        return DraftOutlook(tuple(known), self._last_at + interval - now, interval)

    def growing(self, now: float) -> bool:
        """Whether more of it is expected, and not long overdue."""
        outlook = self.outlook(now)
        return outlook is not None and outlook.due_in > -outlook.interval

    @property
    def _slot(self) -> int:
        return min(self._messages, _REMEMBERED_MESSAGES - 1)
