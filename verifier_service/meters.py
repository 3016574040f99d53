"""The instruments of a verifier, over what it counts anyway; the time of each step is recorded by the step."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from paceline.loop import DeviceLoop
from paceline.telemetry.measuring import Labelled, Readings
from verifier_service.counts import Counts, DrafterCounts, Figures
from verifier_service.record import Totals
from verifier_service.service import Verifier


def measure(verifier: Verifier, steps: DeviceLoop) -> None:
    """Makes them."""
    readings = Readings(verifier.telemetry.meter, verifier.figures)
    _now(readings, verifier, steps)
    _counts(readings)
    _sessions(readings)
    _drafters(readings)


def _now(readings: Readings[Figures], verifier: Verifier, steps: DeviceLoop) -> None:
    limits = verifier.limits

    def sessions(figures: Figures) -> Iterator[Labelled]:
        yield figures.running, {"state": "running"}
        yield figures.waiting, {"state": "waiting"}

    def blocks(figures: Figures) -> Iterator[Labelled]:
        yield figures.free_blocks, {"state": "free"}
        yield figures.blocks - figures.free_blocks, {"state": "taken"}

    def calibration(figures: Figures) -> Iterator[Labelled]:
        return ((error, {"drafter": name}) for name, error in figures.calibration_errors.items())

    for name, says, read in (
        ("sessions", "Sessions that run, and that wait for a place.", sessions),
        ("max.sessions", "Sessions that may run.", lambda _: limits.max_sessions),
        ("max.rows", "Rows that a step may have.", lambda _: limits.max_rows),
        ("blocks", "Blocks of the KV cache.", blocks),
        ("quarantined", "Drafters that are kept out now.", lambda figures: figures.quarantined),
        ("calibration.error", "Mean error of a drafter's probabilities, lately.", calibration),
    ):
        readings.gauge(f"paceline.verify.{name}", says, read)
    says = "How long the step in progress has taken; 0: there is none."
    readings.gauge("paceline.verify.stalled", says, lambda _: steps.stalled_seconds, "s")


def _counts(readings: Readings[Figures]) -> None:
    def total(number: Callable[[Counts], float]) -> Callable[[Figures], float]:
        return lambda figures: number(figures.counts)

    def ended(figures: Figures) -> Iterator[Labelled]:
        return ((number, {"reason": reason}) for reason, number in figures.counts.ended.items())

    for name, says, number in (
        ("steps", "Forwards of the target.", total(lambda it: it.steps)),
        ("rows", "Rows of steps: roots, nodes, tokens of prompts.", total(lambda it: it.rows)),
        ("prompt.rows", "Rows for prompts, and for what is computed again.", total(lambda it: it.prompt_rows)),
        ("offered.nodes", "Nodes that steps could have verified.", total(lambda it: it.offered_nodes)),
        ("paying.nodes", "Offered nodes that paid, by what rows cost.", total(lambda it: it.paying_nodes)),
        ("preemptions", "Sessions whose place was taken from them.", total(lambda it: it.preemptions)),
        ("prompt.tokens", "Tokens of prompts that were admitted.", total(lambda it: it.prompt_tokens)),
        ("cached.tokens", "Tokens of admitted prompts that were in the cache.", total(lambda it: it.cached_tokens)),
        ("quarantines", "Times that a drafter was kept out.", lambda figures: figures.quarantines),
        ("ended.sessions", "Sessions that are over, by why.", ended),
    ):
        readings.counter(f"paceline.verify.{name}", says, number)


def _sessions(readings: Readings[Figures]) -> None:
    def total(number: Callable[[Totals], float]) -> Callable[[Figures], float]:
        return lambda figures: number(figures.counts.sessions)

    def accepted(figures: Figures) -> Iterator[Labelled]:
        for nodes, steps in enumerate(figures.counts.sessions.acceptance_histogram):
            yield steps, {"accepted": str(nodes)}

    for name, says, number, unit in (
        ("session.steps", "Steps, each counted by every session that it is for.", total(lambda it: it.steps), ""),
        ("emitted.tokens", "Tokens that became part of a text.", total(lambda it: it.steps + it.accepted_nodes), ""),
        ("verified.nodes", "Nodes that were verified.", total(lambda it: it.verified_nodes), ""),
        ("accepted.nodes", "Nodes that became part of a text.", total(lambda it: it.accepted_nodes), ""),
        ("pre.verify.steps", "Steps launched while a drafter grew.", total(lambda it: it.pre_verify_steps), ""),
        ("post.verify.nodes", "Accepted nodes that came during a step.", total(lambda it: it.post_verify_nodes), ""),
        ("session.step", "Time of steps, by session and added up.", total(lambda it: it.step_seconds), "s"),
        ("wait", "Time between steps, by session and added up.", total(lambda it: it.verifier_wait_seconds), "s"),
        (
            "drafter.idle",
            "Time with nothing to grow.",
            total(lambda it: it.drafter_idle_seconds),
            "s",
        ),
        ("accepted.steps", "Steps by how many nodes they accepted.", accepted, ""),
    ):
        readings.counter(f"paceline.verify.{name}", says, number, unit)


def _drafters(readings: Readings[Figures]) -> None:
    def by_drafter(number: Callable[[DrafterCounts], float]) -> Callable[[Figures], Iterator[Labelled]]:
        return lambda figures: ((number(it), {"drafter": name}) for name, it in figures.counts.drafters.items())

    for name, says, number, unit in (
        ("proposed", "Nodes that it sent.", by_drafter(lambda it: it.proposed), ""),
        ("verified", "Nodes of it that were verified.", by_drafter(lambda it: it.verified), ""),
        ("accepted", "Nodes of it that were accepted.", by_drafter(lambda it: it.accepted), ""),
        ("unique", "Accepted nodes that it alone had proposed.", by_drafter(lambda it: it.uniquely_accepted), ""),
        ("stale", "Nodes that came too late.", by_drafter(lambda it: it.stale), ""),
        ("rejected", "Malformed entries.", by_drafter(lambda it: it.rejected), ""),
        ("steps", "Steps, by session, while it was to draft.", by_drafter(lambda it: it.steps), ""),
        ("busy", "What its growths took, as it says.", by_drafter(lambda it: it.busy_seconds), "s"),
        ("tested", "Nodes of it whose parent was accepted.", by_drafter(lambda it: it.tested), ""),
        ("promised", "Sum of the probabilities that it gave to tested nodes.", by_drafter(lambda it: it.promised), ""),
    ):
        readings.counter(f"paceline.verify.drafter.{name}", says, number, unit)
