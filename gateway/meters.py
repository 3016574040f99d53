"""The instruments of a gateway, over what it counts anyway."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator

from gateway.admission import QueueStatistics, Reason
from gateway.counts import Counts, DrafterCounts, ModelCounts
from gateway.service import Gateway
from paceline.messages import Worker
from paceline.security.refusals import REFUSALS
from paceline.telemetry.measuring import Labelled, Readings

REASONS = ("lost", "no_room")
"""Why sessions move to another verifier."""
_Read = Callable[[Gateway], Iterator[Labelled]]


def measure(gateway: Gateway) -> None:
    """Makes them; called where the event loop runs."""
    loop = asyncio.get_running_loop()
    readings = Readings(gateway.telemetry.meter, lambda: gateway)
    readings.gauge("paceline.tasks", "Tasks of the event loop.", lambda _: len(asyncio.all_tasks(loop)))
    _requests(readings)
    _tokens(readings)
    _steps(readings)
    _drafters(readings)
    _workers(readings)


def _requests(readings: Readings[Gateway]) -> None:
    def outcomes(gateway: Gateway) -> Iterator[Labelled]:
        for (model, kind, outcome), number in list(gateway.counts.requests.items()):
            yield number, {"model": model, "kind": kind, "outcome": outcome}

    def refused(gateway: Gateway) -> Iterator[Labelled]:
        for model, queue in gateway.admission.statistics().items():
            for reason in Reason:
                yield queue.refused.get(reason.value, 0), {"model": model, "reason": reason.value}

    def failovers(gateway: Gateway) -> Iterator[Labelled]:
        return ((gateway.counts.failovers[reason], {"reason": reason}) for reason in REASONS)

    readings.counter("paceline.requests", "Requests that are over, by how they ended.", outcomes)
    readings.counter("paceline.rejects", "Requests that were told to come back later, by why.", refused)
    readings.gauge("paceline.running.requests", "Requests that have a slot, by model.", _queue(lambda it: it.running))
    readings.gauge("paceline.waiting.requests", "Requests that wait, by model.", _queue(lambda it: it.waiting))
    readings.gauge("paceline.waiting.tokens", "Tokens that those may come to.", _queue(lambda it: it.waiting_tokens))
    readings.counter("paceline.failovers", "Times that a session went on at another verifier, by why.", failovers)
    readings.counter("paceline.refusals", "Refused for who asked, by why.", _refusals)
    readings.gauge("paceline.journal.away", "1: answers cannot be resumed now.", lambda it: int(it.journal.away))
    readings.counter("paceline.journal.outages", "Times that the journal went away.", lambda it: it.journal.outages)
    readings.counter("paceline.unkept", "Answers that could not have been resumed.", lambda it: it.counts.unkept)


def _refusals(_: Gateway) -> Iterator[Labelled]:
    return ((number, {"reason": reason}) for reason, number in REFUSALS.by_reason().items())


def _queue(number: Callable[[QueueStatistics], int]) -> _Read:
    def read(gateway: Gateway) -> Iterator[Labelled]:
        return ((number(queue), {"model": model}) for model, queue in gateway.admission.statistics().items())

    return read


def _tokens(readings: Readings[Gateway]) -> None:
    def total(number: Callable[[ModelCounts], int]) -> Callable[[Gateway], int]:
        return lambda gateway: sum(map(number, list(gateway.counts.models.values())))

    def unasked(gateway: Gateway) -> int:
        return sum(worker.unasked_tokens for worker in gateway.verifiers)

    for name, says, number in (
        ("prompt", "Tokens of prompts that a verifier took on.", total(lambda it: it.prompt)),
        ("completion", "Tokens that clients were given.", total(lambda it: it.delivered)),
        ("cached", "Tokens of answered prompts that were found in the cache.", total(lambda it: it.cached)),
        ("unasked", "Tokens emitted for sessions that had left.", unasked),
    ):
        readings.counter(f"paceline.{name}.tokens", says, number, "{token}")
    for name, says, of_model in (
        ("emitted", "Tokens that verifiers have emitted.", lambda it: it.steps.emitted),
        ("recalled", "Tokens that were told from the journal.", lambda it: it.recalled),
        ("trimmed", "Tokens that a stop string took away.", lambda it: it.trimmed),
        ("unheard", "Tokens whose client had left, or that a failure took away.", lambda it: it.unheard),
    ):
        readings.counter(f"paceline.{name}.tokens", says, _by_model(of_model), "{token}")


def _by_model(number: Callable[[ModelCounts], int]) -> _Read:
    def read(gateway: Gateway) -> Iterator[Labelled]:
        return ((number(counts), {"model": model}) for model, counts in list(gateway.counts.models.items()))

    return read


def _steps(readings: Readings[Gateway]) -> None:
    def accepted(gateway: Gateway) -> Iterator[Labelled]:
        for model, counts in list(gateway.counts.models.items()):
            for nodes, steps in list(counts.steps.accepted.items()):
                yield steps, {"model": model, "accepted": str(nodes)}

    for name, says, number in (
        ("session.steps", "Steps, each counted by every session that it is for.", lambda it: it.steps.steps),
        ("drafted.steps", "Steps of a session that had nodes to verify.", lambda it: it.steps.drafted),
        ("verified.nodes", "Nodes that steps have verified.", lambda it: it.steps.verified),
        ("accepted.nodes", "Nodes that became part of a text.", lambda it: it.steps.accepted_nodes),
    ):
        readings.counter(f"paceline.{name}", says, _by_model(number))
    readings.counter("paceline.accepted.steps", "Steps by how many nodes they accepted.", accepted)
    totals: tuple[tuple[str, str, Callable[[Counts], float], str], ...] = (
        ("pre.verify.steps", "Steps launched while a drafter was growing.", lambda it: it.pre_verify_steps, ""),
        ("post.verify.nodes", "Accepted nodes that came during a step.", lambda it: it.post_verify_nodes, ""),
        ("step", "Time of steps, by session and added up.", lambda it: it.step_seconds, "s"),
        ("verifier.wait", "Time between steps, by session and added up.", lambda it: it.verifier_wait_seconds, "s"),
        ("drafter.idle", "Time in which a drafter had nothing to grow.", lambda it: it.drafter_idle_seconds, "s"),
    )
    for name, says, total, unit in totals:
        readings.counter(f"paceline.{name}", says, _total(total), unit)


def _total(number: Callable[[Counts], float]) -> Callable[[Gateway], float]:
    return lambda gateway: number(gateway.counts)


def _drafters(readings: Readings[Gateway]) -> None:
    def by_drafter(number: Callable[[DrafterCounts], float]) -> _Read:
        def read(gateway: Gateway) -> Iterator[Labelled]:
            return ((number(counts), {"drafter": name}) for name, counts in list(gateway.counts.drafters.items()))

        return read

    for name, says, number, unit in (
        ("proposed", "Nodes that it sent.", lambda it: it.proposed, "{node}"),
        ("verified", "Nodes of it that were verified.", lambda it: it.verified, "{node}"),
        ("accepted", "Nodes of it that were accepted.", lambda it: it.accepted, "{node}"),
        ("unique", "Accepted nodes that it alone had proposed.", lambda it: it.uniquely_accepted, "{node}"),
        ("stale", "Nodes that came too late.", lambda it: it.stale, "{node}"),
        ("rejected", "Malformed entries.", lambda it: it.rejected, "{entry}"),
        ("steps", "Steps, by session, that were launched while it was to draft.", lambda it: it.steps, "{step}"),
        ("busy", "What its growths took.", lambda it: it.busy_seconds, "s"),
        ("cost", "Price per hour times the hours that its growths took.", lambda it: it.cost, ""),
    ):
        readings.counter(f"paceline.drafter.{name}", says, by_drafter(number), unit)


def _workers(readings: Readings[Gateway]) -> None:
    def by_worker(number: Callable[[Worker], float]) -> _Read:
        def read(gateway: Gateway) -> Iterator[Labelled]:
            for worker in gateway.workers():
                yield number(worker), {"worker": worker.worker_id, "role": worker.role}

        return read

    readings.gauge("paceline.sessions", "Sessions by worker.", by_worker(lambda it: it.sessions))
    readings.gauge("paceline.worker.healthy", "1: reachable.", by_worker(lambda it: int(it.healthy)))
    readings.gauge("paceline.worker.capacity", "Sessions that it takes.", by_worker(lambda it: it.max_sessions))
    readings.gauge(
        "paceline.worker.price.per.hour", "Of drafters, as they say.", by_worker(lambda it: it.price_per_hour)
    )
