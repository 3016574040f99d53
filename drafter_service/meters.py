"""The instruments of a drafter, over what it counts anyway."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from drafter_service.counts import LinkCounts
from drafter_service.service import Drafter
from paceline.loop import DeviceLoop
from paceline.telemetry.measuring import Labelled, Readings


def measure(drafter: Drafter, growing: DeviceLoop, price_per_hour: float) -> None:
    """Makes them."""
    readings = Readings(drafter.telemetry.meter, lambda: drafter)
    readings.gauge("paceline.draft.sessions", "Sessions that are attached.", lambda it: it.attached_sessions)
    readings.gauge("paceline.draft.max.sessions", "Sessions that may be.", lambda it: it.max_sessions)
    readings.gauge("paceline.draft.price.per.hour", "What it costs, as it was told.", lambda _: price_per_hour)
    says = "How long the growth in progress has taken; 0: there is none."
    readings.gauge("paceline.draft.stalled", says, lambda _: growing.stalled_seconds, "s")
    readings.counter("paceline.draft.growths", "Times that trees were grown.", lambda it: it.counts.growths)
    readings.counter(
        "paceline.draft.grown.sessions", "Sessions that were part of a growth.", lambda it: it.counts.grown_sessions
    )
    readings.counter("paceline.draft.busy", "Time of growths.", lambda it: it.counts.busy_seconds, "s")
    for name, says, read, unit in (
        ("entries", "Entries with new nodes that were sent.", _by_link(lambda it: it.entries), ""),
        ("nodes", "Nodes that were sent.", _by_link(lambda it: it.nodes), ""),
        ("rounds", "Rounds of lockstep that were completed.", _by_link(lambda it: it.rounds), ""),
        ("busy", "Its share of the time of growths.", _by_link(lambda it: it.busy_seconds), "s"),
        ("idle", "Time with nothing to grow, by session and added up.", _by_link(lambda it: it.idle_seconds), "s"),
    ):
        readings.counter(f"paceline.draft.link.{name}", says, read, unit)


def _by_link(number: Callable[[LinkCounts], float]) -> Callable[[Drafter], Iterator[Labelled]]:
    return lambda drafter: ((number(it), {"verifier": name}) for name, it in list(drafter.counts.links.items()))
