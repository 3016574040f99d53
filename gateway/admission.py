"""Who may start, who waits, and who is told at once to come back later.

A request is admitted when its model has a free slot. Otherwise it waits, by priority and arrival, in a queue that is
bounded by requests, by tokens, and by time: whoever would wait longer than ``wait_seconds``, by the pace at which
slots have come free lately, is refused rather than made to wait. So load beyond capacity changes how many are served,
not how long those wait.
"""

from __future__ import annotations

import asyncio
import bisect
import contextlib
import itertools
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field, replace
from enum import Enum

from gateway.callers import Caller
from gateway.rates import Account
from paceline.errors import ResourceExhausted
from paceline.speculation.estimate import MovingAverage
from paceline.speculation.fields import require

UNBOUNDED_TOKENS = 1024
"""What the text of a request without ``max_tokens`` is taken for until it has ended."""
LEAST_RETRY_SECONDS, LARGEST_RETRY_SECONDS = 0.05, 60.0


class Reason(Enum):
    """Why a request was refused."""

    QUEUE_REQUESTS = "queue_requests"
    QUEUE_TOKENS = "queue_tokens"
    QUEUE_SECONDS = "queue_seconds"
    """It would have waited too long, or has."""
    REQUEST_RATE = "request_rate"
    TOKEN_RATE = "token_rate"  # noqa: S105 - of tokens of text
    CONCURRENT = "concurrent"


@dataclass(frozen=True)
class Bounds:
    """Of each model's queue. All that waits fits: requests, tokens (prompts and what they may generate), seconds."""

    requests: int = 1024
    tokens: int = 1 << 22
    wait_seconds: float = 2.0

    def __post_init__(self) -> None:
        require(self.requests >= 0, "queue_requests", self.requests, "0 or more")
        require(self.tokens >= 0, "queue_tokens", self.tokens, "0 or more")
        require(self.wait_seconds > 0, "queue_seconds", self.wait_seconds, "more than 0")

    def head_start(self, priority: int) -> float:
        """Seconds by which a request of class 0 may come later than one of this class and still go first. Always less
        than anybody waits, so that no class starves."""
        return self.wait_seconds * priority / (priority + 1)


@dataclass(frozen=True)
class Demand:
    """What a request asks for, as far as it is known."""

    model: str
    caller: Caller
    priority: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    """That it may come to."""

    @property
    def tokens(self) -> int:
        return self.prompt_tokens + self.completion_tokens

    def of_tokens(self, prompt_tokens: int, max_tokens: int | None, max_context: int) -> Demand:
        """The same request, its prompt being known."""
        wanted, room = UNBOUNDED_TOKENS if max_tokens is None else max_tokens, max_context - prompt_tokens
        return replace(self, prompt_tokens=prompt_tokens, completion_tokens=min(wanted, room))


@dataclass(eq=False)
class Place:
    """A request's place, waiting or admitted, until it has left."""

    demand: Demand
    arrived_at: float
    rank: tuple[float, int]
    on_admitted: Callable[[], None]
    admitted_at: float | None = None
    left: bool = False

    @property
    def waited_seconds(self) -> float:
        """Of one that was admitted."""
        return 0.0 if self.admitted_at is None else self.admitted_at - self.arrived_at


@dataclass(frozen=True)
class QueueStatistics:
    """Of one model; counts are since the start, ``refused`` by reason."""

    admitted: int
    refused: dict[str, int]
    running: int
    waiting: int
    waiting_tokens: int
    waited_seconds: float
    """Of all that were admitted, in sum."""


@dataclass
class _Line:
    """One model's requests."""

    waiting: list[Place] = field(default_factory=list)
    """By rank."""
    waiting_tokens: int = 0
    running: int = 0
    hold_seconds: MovingAverage = field(default_factory=MovingAverage)
    """How long a request has kept its slot."""
    admitted: int = 0
    refused: Counter[str] = field(default_factory=Counter)
    waited_seconds: float = 0.0


class Admission:
    """Places of all models; plain bookkeeping, called from one thread. ``enter`` is its door for coroutines."""

    def __init__(
        self, bounds: Bounds, slots: Callable[[str], int], clock: Callable[[], float] = time.monotonic
    ) -> None:
        """``slots``: how many requests to a model may run at a time, as things are."""
        self.bounds = bounds
        self._slots, self._clock = slots, clock
        self._lines: dict[str, _Line] = {}
        self._accounts: dict[str, Account] = {}
        self._arrivals = itertools.count()

    def check(self, demand: Demand) -> None:
        """Raises ``ResourceExhausted`` if the request would be refused now, with a fair time to come back; as far as
        its tokens are known. ``FieldError`` if it asks for more than its caller may ever have."""
        account = self._account(demand.caller)
        account.check_possible(demand.tokens)
        self._check_caller(demand, account)
        line = self._line(demand.model)
        if line.waiting or line.running >= self._slots(demand.model):
            self._check_queue(demand, line)

    def ask(self, demand: Demand, on_admitted: Callable[[], None]) -> Place:
        """A place, to be left in any case; ``on_admitted`` is called once it is admitted, maybe at once. Raises as
        ``check`` does."""
        self.check(demand)
        now, account, line = self._clock(), self._account(demand.caller), self._line(demand.model)
        rank = (now + self.bounds.head_start(demand.priority), next(self._arrivals))
        place = Place(demand, now, rank, on_admitted)
        account.active += 1
        if account.requests:
            account.requests.take(1, now)
        if account.tokens:
            account.tokens.take(demand.tokens, now)
        bisect.insort(line.waiting, place, key=lambda waiting: waiting.rank)
        line.waiting_tokens += demand.tokens
        self.fill(demand.model)
        return place

    def leave(self, place: Place, completion_tokens: int = 0) -> None:
        """The request is over, whatever has become of it; what it did not use goes back to its caller. Once is enough,
        later calls change nothing."""
        if place.left:
            return
        place.left = True
        now, demand, line = self._clock(), place.demand, self._line(place.demand.model)
        account, used = self._account(demand.caller), 0
        account.active -= 1
        if place.admitted_at is None:
            line.waiting.remove(place)
            line.waiting_tokens -= demand.tokens
        else:
            used = demand.prompt_tokens + completion_tokens
            line.running -= 1
            line.hold_seconds.add(now - place.admitted_at)
        if account.tokens:
            account.tokens.take(used - demand.tokens, now)
        self.fill(demand.model)

    def expire(self, place: Place) -> ResourceExhausted:
        """It has waited for as long as anybody may: takes its place away and says so."""
        self.leave(place)
        account, line = self._account(place.demand.caller), self._line(place.demand.model)
        if account.requests:
            account.requests.take(-1, self._clock())
        waited = f"no slot within {self.bounds.wait_seconds:g} s"
        return self._refused(place.demand, Reason.QUEUE_SECONDS, waited, self._drained_in(place.demand.model, line))

    def fill(self, model: str) -> None:
        """Admits whoever is next for as long as there are slots; to be called when there may be more of them."""
        line = self._line(model)
        while line.waiting and line.running < self._slots(model):
            place = line.waiting.pop(0)
            place.admitted_at = self._clock()
            line.waiting_tokens -= place.demand.tokens
            line.running += 1
            line.admitted += 1
            line.waited_seconds += place.admitted_at - place.arrived_at
            place.on_admitted()

    def statistics(self) -> dict[str, QueueStatistics]:
        """By model."""
        return {
            model: QueueStatistics(
                line.admitted, dict(line.refused), line.running, len(line.waiting), line.waiting_tokens,
                line.waited_seconds,
            )
            for model, line in self._lines.items()
        }  # fmt: skip

    # -- what is refused -----------------------------------------------------------------------------------------------

    def _check_caller(self, demand: Demand, account: Account) -> None:
        now, limits, key = self._clock(), demand.caller.limits, f"key {demand.caller.name!r}"
        if account.requests and (wait := account.requests.seconds_until(1, now)):
            said = f"{key}: {limits.requests_per_minute} requests per minute"
            raise self._refused(demand, Reason.REQUEST_RATE, said, wait)
        if account.tokens and (wait := account.tokens.seconds_until(demand.tokens, now)):
            said = f"{key}: {limits.tokens_per_minute} tokens per minute"
            raise self._refused(demand, Reason.TOKEN_RATE, said, wait)
        if account.full:
            hold = self._line(demand.model).hold_seconds.get(self.bounds.wait_seconds)
            said = f"{key}: {limits.concurrent} requests at a time"
            raise self._refused(demand, Reason.CONCURRENT, said, hold / account.active)

    def _check_queue(self, demand: Demand, line: _Line) -> None:
        bounds, waiting = self.bounds, len(line.waiting)
        drained = self._drained_in(demand.model, line)
        if waiting >= bounds.requests:
            raise self._refused(demand, Reason.QUEUE_REQUESTS, f"{waiting} requests are waiting", drained)
        if line.waiting_tokens + demand.tokens > bounds.tokens:
            said = f"{line.waiting_tokens} tokens are waiting and {demand.tokens} would be too many"
            raise self._refused(demand, Reason.QUEUE_TOKENS, said, drained)
        rank = self._clock() + bounds.head_start(demand.priority)
        ahead = bisect.bisect_right(line.waiting, rank, key=lambda place: place.rank[0])
        wait = (ahead + 1) * self._seconds_per_slot(demand.model, line)
        if wait > bounds.wait_seconds:
            said = f"{ahead} requests are ahead, about {wait:.1f} s"
            raise self._refused(demand, Reason.QUEUE_SECONDS, said, drained)

    def _refused(self, demand: Demand, reason: Reason, said: str, retry_seconds: float) -> ResourceExhausted:
        self._line(demand.model).refused[reason.value] += 1
        retry = min(max(retry_seconds, LEAST_RETRY_SECONDS), LARGEST_RETRY_SECONDS)
        return ResourceExhausted(f"{demand.model}: {said}; try again in {retry:.2f} s", retry)

    def _seconds_per_slot(self, model: str, line: _Line) -> float:
        """Between two that come free while all are taken (Little's law). As long as nothing is known a slot is taken to
        be kept for as long as anybody may wait, so that no more wait than run."""
        return line.hold_seconds.get(self.bounds.wait_seconds) / max(1, self._slots(model))

    def _drained_in(self, model: str, line: _Line) -> float:
        """By then all that wait now will have been admitted."""
        return (len(line.waiting) + 1) * self._seconds_per_slot(model, line)

    def _line(self, model: str) -> _Line:
        return self._lines.setdefault(model, _Line())

    def _account(self, caller: Caller) -> Account:
        return self._accounts.setdefault(caller.name, Account(caller, self._clock()))


@contextlib.asynccontextmanager
async def enter(admission: Admission, demand: Demand) -> AsyncIterator[Place]:
    """Waits until the request is admitted, and leaves at the end; cancelled while it waits, it gives its place up."""
    admitted = asyncio.Event()
    place = admission.ask(demand, admitted.set)
    try:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(admission.bounds.wait_seconds):
                await admitted.wait()
        if place.admitted_at is None:
            raise admission.expire(place)
        yield place
    finally:
        admission.leave(place)
