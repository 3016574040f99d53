"""What an emulation has cost this machine, and whether the machine could bear it (Linux, /proc)."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from paceline.cluster.child import Worker
from paceline.emulation import Lateness
from paceline.experiments.sweeps import Value
from paceline.testing.processes import Process

CLIENT = "client"
"""This process, which asks."""
MOST_LATE = 0.03
"""Share of the time by which a worker's forwards may have been late in all."""
MOST_WAITED = 0.05
"""Share of the time that a thread may have waited for a processor while it could have gone on."""


@dataclass(frozen=True)
class Reading:
    """At one time."""

    at: float
    fleet_seconds: dict[str, float]
    """Processor time by worker, and of this process, which asks."""
    waited_seconds: dict[int, float]
    """For a processor, by thread of all of them."""
    idle_seconds: float
    """Of all processors."""
    lateness: dict[str, Lateness]

    @classmethod
    def now(cls, workers: Sequence[Worker]) -> Reading:
        processes = {**{worker.name: worker.process.pid for worker in workers}, CLIENT: os.getpid()}
        taken = {name: Process(pid).cpu_seconds for name, pid in processes.items()}
        waited = {thread: seconds for pid in processes.values() for thread, seconds in _waits(pid)}
        logs = {worker.name: worker.log.read_text(errors="replace") if worker.log else "" for worker in workers}
        lateness = {name: Lateness.read(log) for name, log in logs.items()}
        return cls(time.monotonic(), taken, waited, _idle_seconds(), lateness)


@dataclass(frozen=True)
class Effort:
    """Between two readings."""

    seconds: float
    cpu_seconds: float
    """Of the fleet and of who asks."""
    busy: float
    """Share of all processors' time that was taken, by others, too."""
    waited: float
    """Share of the time that a thread could have gone on and waited for a processor: the one that waited longest."""
    forwards: int
    missed: float
    """Share of them, at the worker that missed most: they took longer by themselves than emulated."""
    late: float
    """Share of the time, at the worker that was latest: computing that took longer, and waking up late."""

    @classmethod
    def between(cls, before: Reading, after: Reading) -> Effort:
        seconds, cores = after.at - before.at, os.cpu_count() or 1
        paced = [said.since(before.lateness.get(name, Lateness())) for name, said in after.lateness.items()]
        return cls(
            seconds=seconds,
            cpu_seconds=sum(after.fleet_seconds.values()) - sum(before.fleet_seconds.values()),
            busy=max(0.0, 1 - (after.idle_seconds - before.idle_seconds) / (seconds * cores)),
            waited=max(now - before.waited_seconds.get(thread, 0.0) for thread, now in after.waited_seconds.items())
            / seconds,
            forwards=sum(said.forwards for said in paced),
            missed=max((said.share for said in paced), default=0.0),
            late=max((said.late_seconds for said in paced), default=0.0) / seconds,
        )

    @property
    def doubts(self) -> list[str]:
        """Why what was emulated may not be what it stands for; none: it is."""
        found = [
            (self.late > MOST_LATE, f"a worker's forwards were late by {self.late:.0%} of the time"),
            (self.waited > MOST_WAITED, f"a thread waited for a processor {self.waited:.0%} of the time"),
        ]
        return [doubt for there, doubt in found if there]

    def notes(self) -> dict[str, Value]:
        """Of a row."""
        return {
            "valid": f"no: {'; '.join(self.doubts)}" if self.doubts else "yes",
            "forwards": self.forwards,
            "forwards_missed": round(self.missed, 4),
            "forwards_late": round(self.late, 4),
            "waited_for_processor": round(self.waited, 4),
            "processors_busy": round(self.busy, 3),
            "cpu_seconds": round(self.cpu_seconds, 2),
        }


def _waits(pid: int) -> Iterator[tuple[int, float]]:
    """Seconds that each thread was runnable and did not run (Documentation/scheduler/sched-stats.rst)."""
    for thread in Path(f"/proc/{pid}/task").iterdir():
        with contextlib.suppress(OSError):  # it has ended
            yield int(thread.name), 1e-9 * int((thread / "schedstat").read_text().split()[1])


def _idle_seconds() -> float:
    """Of all processors together, since the machine was started; waiting for a disk counts."""
    fields = Path("/proc/stat").read_text().splitlines()[0].split()
    return (int(fields[4]) + int(fields[5])) / os.sysconf("SC_CLK_TCK")
