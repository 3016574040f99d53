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

from paceline.logs import get_logger
from paceline.speculation.fields import FieldError, require
from paceline.speculation.noise import noise_hash, uniform
from paceline.speculation.tree import Node, Selection

logger = get_logger(__name__)

ItemT = TypeVar("ItemT")
LOG_EVERY = 50
SYNTHETIC = "synthetic acceptance"
"""What a verifier that accepts by rates says of its numerics."""
_DURATION = re.compile(r"(\d+(?:\.\d+)?)(us|ms|s)")
_BANDWIDTH = re.compile(r"(\d+(?:\.\d+)?)(kbps|mbps|gbps)")
_COIN = np.array([1 << 62], np.uint64)
"""A token that no vocabulary has, so that its noise is nobody else's."""
_SECONDS = {"us": 1e-6, "ms": 1e-3, "s": 1.0}
_BITS = {"kbps": 1e3, "mbps": 1e6, "gbps": 1e9}


@dataclass
class Pace:
    """How long a forward takes at least: ``seconds``, and so much more for each row after the first."""

    seconds: float
    per_row_seconds: float = 0.0
    forwards: int = 0
    missed: int = 0
    """Forwards that took longer by themselves."""

    @classmethod
    def parse(cls, text: str) -> Pace | None:
        """``40ms`` or ``40ms,per_row=0.1ms``; nothing for an empty text."""
        if not text:
            return None
        step, *more = text.split(",")
        options = _options("emulate_step_time", more, ("per_row",))
        per_row = options.get("per_row")
        return cls(_seconds("emulate_step_time", step), _seconds("per_row", per_row) if per_row else 0.0)

    def hold(self, started: float, rows: int) -> None:
        """Waits until a forward over ``rows`` that ``started`` on the performance counter is due."""
        self.forwards += 1
        if self.forwards % LOG_EVERY == 0:
            logger.info("pace", forwards=self.forwards, late=self.missed)
        left = started + self.seconds + self.per_row_seconds * (rows - 1) - time.perf_counter()
        if left > 0:
            time.sleep(left)
        else:
            self.missed += 1


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
        loop = asyncio.get_running_loop()
        underway: asyncio.Queue[tuple[float, ItemT] | None] = asyncio.Queue()

        async def send() -> None:
            try:
                async for item in source:
                    underway.put_nowait((self.arrival(loop.time(), size(item)), item))
            finally:
                underway.put_nowait(None)

        sending = asyncio.create_task(send())
        try:
            while (entry := await underway.get()) is not None:
                await asyncio.sleep(max(0.0, entry[0] - loop.time()))
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
        require(right, field_, text, "probabilities from 0 to 1 by depth, as 0.8,0.6")
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
