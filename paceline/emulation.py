"""Experimental: a larger model's step time, a longer wire and a better draft, emulated, to try a cluster without them.

Deadlines, not delays: a forward takes the larger of its own and the given time, so that computing counts.
"""

from __future__ import annotations

import asyncio
import random
import re
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np

from paceline.logs import get_logger, readable
from paceline.speculation.cost import CostCurve
from paceline.speculation.fields import FieldError, require
from paceline.speculation.noise import noise_hash, uniform
from paceline.speculation.tree import Node, Selection

logger = get_logger(__name__)

ItemT = TypeVar("ItemT")
LOG_EVERY = 50
SYNTHETIC = "synthetic acceptance"
"""What a verifier that accepts by rates says of its numerics."""
TIMERS_SECONDS = 1.5e-3
"""How late an event loop's timer may be."""
PACE_HELP = (
    "experimental: a forward takes at least so long, as 40ms,per_row=0.1ms or, by rows, 40ms,8=41ms,64=44ms; further "
    "per_session, prompt_token (each; prompts' rows are then no others) and context (of 1,024 tokens)"
)
_PACES = ("per_row", "per_session", "prompt_token", "context")
_PACE_LINE = re.compile(r"pace forwards=(\d+) late=(\d+) late_seconds=([\d.e-]+) asked_seconds=([\d.e-]+)")
_DURATION = re.compile(r"(\d+(?:\.\d+)?)(us|ms|s)")
_BANDWIDTH = re.compile(r"(\d+(?:\.\d+)?)(kbps|mbps|gbps)")
_COIN = np.array([1 << 62], np.uint64)
"""A token that no vocabulary has, so that its noise is nobody else's."""
_SECONDS = {"us": 1e-6, "ms": 1e-3, "s": 1.0}
_BITS = {"kbps": 1e3, "mbps": 1e6, "gbps": 1e9}


@dataclass
class Pace:
    """How long a forward takes at least: ``curve`` by its rows and sessions, in seconds.

    With ``prompt_token_seconds`` prompts' rows are not among those, but take so long each; each 1,024 tokens of context
    of sessions that decode take ``context_seconds``.
    """

    curve: CostCurve
    prompt_token_seconds: float | None = None
    context_seconds: float = 0.0
    forwards: int = 0
    missed: int = 0
    """Forwards that took longer by themselves."""
    asked_seconds: float = 0.0
    late_seconds: float = 0.0
    """Past the time that was asked for, of all forwards: computing that took longer, and waking up late."""

    @classmethod
    def parse(cls, text: str) -> Pace | None:
        """``40ms``, ``40ms,per_row=0.1ms`` or, a table, ``40ms,8=41ms,64=44ms`` for so many rows; and ``per_session``
        for each further session, ``prompt_token`` and ``context`` as above. Nothing for an empty text."""
        if not text:
            return None
        step, *more = text.split(",")
        rows = [word.partition("=")[0] for word in more if word[:1].isdigit()]
        options = _options("emulate_step_time", more, (*_PACES, *rows))
        points = [(1, _seconds("emulate_step_time", step))]
        for name in rows:
            right = name.isdigit() and int(name) > points[-1][0] and "per_row" not in options
            require(right, "emulate_step_time", text, "rising numbers of rows from 2 on, without per_row")
            points.append((int(name), _seconds("emulate_step_time", options[name])))
        times = {name: _seconds(name, options[name]) for name in _PACES if name in options}
        if "per_row" in times:
            points.append((2, points[0][1] + times["per_row"]))
        curve = CostCurve.measured(points, times.get("per_session", 0.0))
        return cls(curve, times.get("prompt_token"), times.get("context", 0.0))

    def seconds(self, rows: int, *, prompt_rows: int = 0, sessions: int = 1, context: int = 0) -> float:
        """Of a forward over so many rows, and such of prompts, for ``sessions`` whose texts have ``context`` tokens."""
        if self.prompt_token_seconds is None:
            rows, prompt_rows = rows + prompt_rows, 0
        step = self.curve(rows, max(1, sessions)) + self.context_seconds * context / 1024 if rows else 0.0
        return step + prompt_rows * (self.prompt_token_seconds or 0.0)

    def hold(self, started: float, rows: int, *, prompt_rows: int = 0, sessions: int = 1, context: int = 0) -> None:
        """Waits until a forward that ``started`` on the performance counter is due."""
        self.forwards += 1
        asked = self.seconds(rows, prompt_rows=prompt_rows, sessions=sessions, context=context)
        due = started + asked
        left = due - time.perf_counter()
        if left > 0:
            time.sleep(left)
        else:
            self.missed += 1
        self.asked_seconds += asked
        self.late_seconds += max(0.0, time.perf_counter() - due)
        if self.forwards % LOG_EVERY == 0:
            self.log()

    def log(self) -> None:
        """What ``Lateness.read`` reads."""
        late, asked = round(self.late_seconds, 4), round(self.asked_seconds, 4)
        logger.info("pace", forwards=self.forwards, late=self.missed, late_seconds=late, asked_seconds=asked)


@dataclass(frozen=True)
class Lateness:
    """What a service has said of its pace so far."""

    forwards: int = 0
    missed: int = 0
    asked_seconds: float = 0.0
    late_seconds: float = 0.0

    @classmethod
    def read(cls, log: str) -> Lateness:
        """The last of it, in a log of either form; nothing yet: zeros."""
        for line in reversed(log.splitlines()):
            found = _PACE_LINE.search(readable(line)) if "pace" in line else None
            if found:
                forwards, missed, late, asked = found.groups()
                return cls(int(forwards), int(missed), float(asked), float(late))
        return cls()

    @property
    def share(self) -> float:
        """Of the forwards that missed their deadline."""
        return self.missed / self.forwards if self.forwards else 0.0

    def since(self, before: Lateness) -> Lateness:
        """What has come to it since then."""
        return Lateness(
            self.forwards - before.forwards,
            self.missed - before.missed,
            self.asked_seconds - before.asked_seconds,
            self.late_seconds - before.late_seconds,
        )


@dataclass
class EmulatedLink:
    """One direction of an emulated link: messages arrive in order, half a round trip after they were sent, or later."""

    rtt_seconds: float = 0.0
    jitter_seconds: float = 0.0
    bits_per_second: float | None = None
    _free_at: float = 0.0
    _random: random.Random = field(default_factory=lambda: random.Random(0))

    @classmethod
    def parse(cls, text: str) -> EmulatedLink | None:
        """``rtt=5ms,jitter=1ms,bandwidth=100mbps``; nothing for an empty text."""
        if not text:
            return None
        options = _options("emulate_link", text.split(","), ("rtt", "jitter", "bandwidth"))
        bandwidth = options.get("bandwidth")
        found = _BANDWIDTH.fullmatch(bandwidth.lower()) if bandwidth else None
        require(bandwidth is None or found is not None, "bandwidth", bandwidth, "a number and kbps, mbps or gbps")
        return cls(
            _seconds("rtt", options.get("rtt", "0ms")),
            _seconds("jitter", options.get("jitter", "0ms")),
            float(found[1]) * _BITS[found[2]] if found else None,
        )

    def other_direction(self) -> EmulatedLink:
        """The way back: just as long, with a queue of its own."""
        return EmulatedLink(self.rtt_seconds, self.jitter_seconds, self.bits_per_second)

    def arrival(self, now: float, size_bytes: int) -> float:
        """When a message that is sent now arrives."""
        sending = 8 * size_bytes / self.bits_per_second if self.bits_per_second else 0.0
        on_the_way = self.rtt_seconds / 2 + self._random.uniform(0, self.jitter_seconds)
        self._free_at = max(self._free_at, now + on_the_way) + sending
        return self._free_at

    async def carry(self, source: AsyncIterator[ItemT], size: Callable[[ItemT], int]) -> AsyncIterator[ItemT]:
        """The items of ``source``, each when it arrives."""
        underway: asyncio.Queue[tuple[float, ItemT] | None] = asyncio.Queue()

        async def send() -> None:
            try:
                async for item in source:
                    underway.put_nowait((self.arrival(time.monotonic(), size(item)), item))
            finally:
                underway.put_nowait(None)

        sending = asyncio.create_task(send())
        try:
            while (entry := await underway.get()) is not None:
                await _until(entry[0])
                yield entry[1]
            await sending
        finally:
            sending.cancel()


@dataclass(frozen=True)
class SyntheticAcceptance:
    """Drafts are accepted by the toss of a coin, to measure speeds where no draft model fits the target.

    ``rates`` are the probabilities, at depth 1, 2, … below the root, that a node's likeliest child is accepted once the
    node is; the last one holds for all deeper levels. (vLLM's ``synthetic_acceptance_rates`` are those of whole paths.)
    """

    rates: tuple[float, ...]

    @classmethod
    def parse(cls, text: str, field_: str = "emulate_acceptance") -> SyntheticAcceptance | None:
        """``0.8,0.7,0.6``; nothing for an empty text."""
        if not text:
            return None
        try:
            rates = tuple(float(part) for part in text.split(","))
        except ValueError:
            rates = ()
        right = bool(rates) and all(0 <= rate <= 1 for rate in rates)
        require(right, field_, text, "probabilities from 0 to 1 by depth, as 0.8,0.6, or text")
        return cls(rates)

    def choice(self, own: Callable[[int], int], selection: Selection, root: Node, key: int) -> Callable[[int], int]:
        """What is said after each row of a step: the likeliest draft below it if the coin says so, else the target's
        ``own`` choice. The coin is a function of noise ``key`` and position alone."""

        def choose(row: int) -> int:
            child = _likeliest(row, selection, root)
            if child is not None:
                rate = self.rates[min(child.position - root.position, len(self.rates)) - 1]
                if uniform(noise_hash(key, child.position, _COIN))[0] < rate:
                    return child.token_id
            return own(row)

        return choose


def _likeliest(row: int, selection: Selection, root: Node) -> Node | None:
    """The likeliest draft below a row of a step: one of the step's, or, where those end, one that has come meanwhile.

    A good draft is right about what follows the step, too; were it not, overlapped drafting would gain nothing.
    """
    nodes, parents = selection.nodes, selection.parents
    if row < len(nodes) and parents[row] == row:  # depth first, the likeliest child first: it is the next row
        return nodes[row]
    below = (nodes[row - 1] if row else root).children
    return max(tuple(below.values()), key=lambda node: node.log_score, default=None)


async def _until(when: float) -> None:
    """On the monotonic clock. An event loop's timers are a millisecond fine, a thread's sleep is finer."""
    left = when - time.monotonic()
    if left > TIMERS_SECONDS:
        await asyncio.sleep(left - TIMERS_SECONDS)
    left = when - time.monotonic()
    if left > 0:
        await asyncio.to_thread(time.sleep, left)


def _options(field_: str, parts: list[str], known: tuple[str, ...]) -> dict[str, str]:
    options = dict(part.split("=", 1) for part in parts if "=" in part)
    right = len(options) == len(parts) and set(options) <= set(known)
    require(right, field_, ",".join(parts), " and ".join(f"{name}=…" for name in known))
    return options


def _seconds(field_: str, text: str) -> float:
    found = _DURATION.fullmatch(text)
    if found is None:
        raise FieldError(field_, text, "a time such as 5ms, 800us or 1s")
    return float(found[1]) * _SECONDS[found[2]]
