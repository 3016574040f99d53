"""Admission: what is let in waits a bounded time, the rest is refused at once, and everything is given back."""

from __future__ import annotations

import asyncio
import heapq
import random
from dataclasses import dataclass, field

import pytest

from gateway.admission import UNBOUNDED_TOKENS, Admission, Bounds, Demand, Place, Reason, enter
from gateway.callers import ANONYMOUS, Caller, CallerLimits
from paceline.errors import FieldError, ResourceExhausted


@dataclass
class World:
    """An admission with a clock of its own and so many slots."""

    slots: int = 2
    bounds: Bounds = field(default_factory=Bounds)
    known: bool = True
    """Whether it has seen a request, a very short one."""
    now: float = 0.0

    def __post_init__(self) -> None:
        self.admission = Admission(self.bounds, lambda model: self.slots, lambda: self.now)
        if self.known:
            self.learn(hold_seconds=0.001)

    def ask(self, priority: int = 0, caller: Caller = ANONYMOUS, prompt: int = 10, most: int | None = 10) -> Place:
        return self.admission.ask(Demand("m", caller, priority).of_tokens(prompt, most, 100_000), lambda: None)

    def refused(
        self, priority: int = 0, caller: Caller = ANONYMOUS, prompt: int = 10, most: int | None = 10
    ) -> ResourceExhausted:
        with pytest.raises(ResourceExhausted) as caught:
            self.ask(priority, caller, prompt, most)
        return caught.value

    def learn(self, hold_seconds: float) -> None:
        """A request comes and keeps its slot for so long."""
        place = self.ask()
        self.now += hold_seconds
        self.admission.leave(place)

    @property
    def refusals(self) -> dict[str, int]:
        return self.admission.statistics()["m"].refused


def admitted(*places: Place) -> list[bool]:
    return [place.admitted_at is not None for place in places]


def test_slots_are_filled_in_the_order_of_arrival() -> None:
    world = World(slots=2)
    places = [world.ask() for _ in range(4)]
    assert admitted(*places) == [True, True, False, False]
    world.admission.leave(places[1])
    assert admitted(*places) == [True, True, True, False]
    world.slots = 3
    world.admission.fill("m")
    assert admitted(*places) == [True, True, True, True]
    assert world.admission.statistics()["m"].running == 3


def test_before_anything_is_known_no_more_wait_than_run() -> None:
    world = World(slots=3, known=False)
    for _ in range(6):
        world.ask()
    assert "3 requests are ahead" in str(world.refused())


def test_leaving_twice_frees_one_slot() -> None:
    world = World(slots=1)
    first, second, third = (world.ask() for _ in range(3))
    world.admission.leave(first)
    world.admission.leave(first)
    assert admitted(second, third) == [True, False]
    world.admission.leave(third)
    assert (world.admission.statistics()["m"].waiting, world.admission.statistics()["m"].running) == (0, 1)


def test_the_queue_is_bounded_by_requests_and_by_tokens() -> None:
    world = World(slots=1, bounds=Bounds(requests=2, tokens=100))
    world.ask()
    waiting = [world.ask(prompt=30), world.ask(prompt=30)]
    assert "2 requests are waiting" in str(world.refused())
    world.admission.leave(waiting[0])  # admitted by nobody: it has gone away
    assert "40 tokens are waiting" in str(world.refused(prompt=91))
    assert world.refusals == {"queue_requests": 1, "queue_tokens": 1}
    world.ask(prompt=50)


def test_who_would_wait_too_long_is_refused_at_once_with_the_time_until_the_queue_is_gone() -> None:
    world = World(slots=2, bounds=Bounds(wait_seconds=2.0), known=False)
    world.learn(hold_seconds=1.0)
    for _ in range(2 + 4):  # two run, four wait for half a second each
        world.ask()
    refusal = world.refused()
    assert "4 requests are ahead, about 2.5 s" in str(refusal)
    assert refusal.retry_after_seconds == pytest.approx(2.5)
    assert world.refusals == {Reason.QUEUE_SECONDS.value: 1}


def test_a_better_class_is_still_let_in_where_a_worse_one_is_refused() -> None:
    world = World(slots=1, bounds=Bounds(wait_seconds=2.0), known=False)
    world.learn(hold_seconds=0.5)
    running, *batch = world.ask(), *(world.ask(priority=1) for _ in range(4))
    assert "4 requests are ahead" in str(world.refused(priority=1))
    interactive = world.ask()
    world.admission.leave(running)
    assert admitted(interactive, *batch) == [True, False, False, False, False]


def test_no_class_starves() -> None:
    """One slot, an interactive request always waiting: a batch request still gets in before its time is up."""
    world = World(slots=1, bounds=Bounds(wait_seconds=2.0))
    running, batch = world.ask(), world.ask(priority=1)
    for _ in range(30):
        waiting = world.ask()
        world.now += 0.1
        world.admission.leave(running)
        running = waiting
        if batch.admitted_at is not None:
            break
    assert batch.admitted_at is not None
    assert 1.0 <= batch.admitted_at <= 1.2 < world.bounds.wait_seconds
    assert all(world.bounds.head_start(p) < world.bounds.head_start(p + 1) < 2.0 for p in range(20))


LIMITED = Caller("k", limits=CallerLimits(requests_per_minute=6, tokens_per_minute=600, concurrent=2))


def test_requests_per_minute_come_back_one_by_one() -> None:
    world = World(slots=100)
    caller = Caller("k", limits=CallerLimits(requests_per_minute=6))
    for _ in range(6):
        world.ask(caller=caller)
    assert world.refused(caller=caller).retry_after_seconds == pytest.approx(10.0)
    world.now += 9.0
    assert world.refused(caller=caller).retry_after_seconds == pytest.approx(1.0)
    world.now += 1.0
    world.ask(caller=caller)
    world.ask()  # nobody else is concerned
    assert world.refusals == {"request_rate": 2}


def test_tokens_that_were_not_used_go_back() -> None:
    world = World(slots=100)
    caller = Caller("k", limits=CallerLimits(tokens_per_minute=600))
    place = world.ask(caller=caller, prompt=100, most=400)
    assert "600 tokens per minute" in str(world.refused(caller=caller, prompt=100, most=100))
    world.admission.leave(place, completion_tokens=50)
    world.ask(caller=caller, prompt=50, most=400)
    refusal = world.refused(caller=caller, prompt=1, most=10)
    assert refusal.retry_after_seconds == pytest.approx(11 / 10)


def test_tokens_without_a_bound_are_settled_afterwards() -> None:
    world = World(slots=100)
    caller = Caller("k", limits=CallerLimits(tokens_per_minute=2000))
    place = world.ask(caller=caller, prompt=0, most=None)
    world.admission.leave(place, completion_tokens=UNBOUNDED_TOKENS + 1976)
    refusal = world.refused(caller=caller, prompt=0, most=1000)
    assert refusal.retry_after_seconds == pytest.approx(60.0)  # 1,000 too many and 1,000 wanted


def test_what_no_waiting_would_let_through_is_a_mistake() -> None:
    with pytest.raises(FieldError, match=r"max_tokens = '601 tokens with the prompt': expected .* the 600 tokens"):
        World().ask(caller=LIMITED, prompt=1, most=600)


def test_so_many_at_a_time_waiting_or_running() -> None:
    world = World(slots=1)
    running, waiting = world.ask(caller=LIMITED), world.ask(caller=LIMITED)
    assert "2 requests at a time" in str(world.refused(caller=LIMITED))
    world.admission.leave(waiting)
    world.ask(caller=LIMITED)
    world.admission.leave(running)
    assert world.refusals == {"concurrent": 1}


def test_a_refusal_costs_its_caller_nothing() -> None:
    world = World(slots=1, bounds=Bounds(requests=0))
    world.ask()
    for _ in range(10):
        assert "0 requests are waiting" in str(world.refused(caller=LIMITED))
    assert world.admission.statistics()["m"].refused == {"queue_requests": 10}


@pytest.mark.parametrize("overload", [1.5, 3.0, 10.0])
def test_overload_changes_how_many_are_served_and_not_how_long_they_wait(overload: float) -> None:
    """Poisson arrivals at a multiple of what eight slots can serve, a second each on average: whoever is admitted has
    waited a bounded time, and no slot idles."""
    world, chance, slots, arrivals = World(8, Bounds(wait_seconds=0.5), known=False), random.Random(7), 8, 4000
    waiting, running, waits = list[Place](), list[tuple[float, int, Place]](), list[float]()
    retries, arriving = list[float](), 0.0

    def start_the_admitted() -> None:
        for place in [place for place in waiting if place.admitted_at is not None]:
            waiting.remove(place)
            waits.append(world.now - place.arrived_at)
            heapq.heappush(running, (world.now + chance.uniform(0.5, 1.5), len(waits), place))

    for _ in range(arrivals):
        arriving += chance.expovariate(slots * overload)
        while running and running[0][0] <= arriving:
            world.now, _, place = heapq.heappop(running)
            world.admission.leave(place)
            start_the_admitted()
        world.now = arriving
        try:
            waiting.append(world.ask())
        except ResourceExhausted as refusal:
            retries.append(refusal.retry_after_seconds)
        start_the_admitted()
    assert sorted(waits)[int(0.99 * len(waits))] < 2 * world.bounds.wait_seconds
    assert len(waits) > 0.95 * slots * arriving
    assert len(waits) + len(retries) + len(waiting) == arrivals
    assert 0 < min(retries) <= max(retries) < 2 * world.bounds.wait_seconds


# -- the door for coroutines -------------------------------------------------------------------------------------------


async def test_one_who_waits_is_admitted_when_another_leaves() -> None:
    admission = Admission(Bounds(), lambda model: 1)
    demand = Demand("m", ANONYMOUS)
    async with enter(admission, demand):
        second = asyncio.create_task(_pass(admission, demand))
        await asyncio.sleep(0)
        assert admission.statistics()["m"].waiting == 1
    await second
    statistics = admission.statistics()["m"]
    assert (statistics.running, statistics.waiting, statistics.admitted) == (0, 0, 2)


async def test_one_who_gives_up_while_waiting_leaves_no_trace() -> None:
    admission = Admission(Bounds(), lambda model: 1)
    demand = Demand("m", LIMITED, 0, 5, 5)
    async with enter(admission, demand):
        second = asyncio.create_task(_pass(admission, demand))
        await asyncio.sleep(0)
        second.cancel()
        await asyncio.gather(second, return_exceptions=True)
        statistics = admission.statistics()["m"]
        assert (statistics.waiting, statistics.waiting_tokens) == (0, 0)
        admission.check(demand)


async def test_nobody_waits_longer_than_the_bound() -> None:
    admission = Admission(Bounds(wait_seconds=0.05), lambda model: 0)
    with pytest.raises(ResourceExhausted, match=r"no slot within 0\.05 s"):
        await _pass(admission, Demand("m", ANONYMOUS))
    assert admission.statistics()["m"].refused == {"queue_seconds": 1}
    assert admission.statistics()["m"].waiting == 0


async def _pass(admission: Admission, demand: Demand) -> None:
    async with enter(admission, demand):
        pass
