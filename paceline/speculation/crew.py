"""Who drafts for a session: plain rules over what is known of the drafters, run by a gateway.

Drafters that guess alike (one kind, one model) are a group; a session takes one of each group. Which groups pay, and
which drafters keep up with the others of their group, is learned from what verifiers report of all sessions.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable
from dataclasses import dataclass

from paceline.speculation.policy import Mode

SLOW = 0.25
"""A drafter that brings less than this share of what its group is known to bring has fallen behind."""
KNOWN_SECONDS = 20.0
"""How long it holds that a drafter is slow; then that has to be seen again."""
PAYS_SECONDS = 5.0
"""How long it holds that a drafter does not pay. Not long: the verifier learns more only while it is attached."""
LEAST_STEPS = 16
"""A report on fewer steps says nothing about how well a drafter does."""
_WEIGHT, _FADING = 0.5, 0.03

Kind = tuple[Mode, int, str]


@dataclass(frozen=True)
class Drafter:
    """One that could draft for a session. Drafters of one ``group`` guess alike."""

    drafter_id: str
    group: str
    sessions: int
    max_sessions: int


@dataclass(frozen=True)
class Situation:
    """What an opinion holds for: a mode, about so many sessions running at the verifier, and its model."""

    mode: Mode
    running: int
    model: str = ""

    @property
    def kind(self) -> Kind:
        """Alike for numbers of sessions that are about the same."""
        return self.mode, round(math.log2(max(1, self.running))), self.model


@dataclass
class _Known:
    """What one drafter has brought lately: accepted tokens per step, and whether that was worth its cost."""

    at: float
    tokens_per_step: float
    pays: bool


class Experience:
    """What reports have said of drafters."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, Kind], _Known] = {}
        self._usual: dict[tuple[str, Kind], float] = {}

    def report(
        self, now: float, drafter: Drafter, situation: Situation, steps: int, accepted: int, *, drafting: bool
    ) -> None:
        """In the last ``steps`` that this drafter drafted for in a session so many of its tokens were accepted;
        ``drafting``: the verifier has found that this pays."""
        key, rate = (drafter.drafter_id, situation.kind), accepted / steps if steps else 0.0
        known = self._known.get(key)
        if drafting and known is not None and known.pays:
            rate = known.tokens_per_step + _WEIGHT * (rate - known.tokens_per_step)
        self._known[key] = _Known(now, rate, drafting)
        if drafting:
            alike = drafter.group, situation.kind
            usual = self._usual.get(alike, rate)
            self._usual[alike] = max(rate, usual + _FADING * (rate - usual))

    def behind(self, now: float, drafter: Drafter, situation: Situation) -> bool:
        """Whether it has lately brought much less than its group usually does."""
        known = self._lately(now, drafter.drafter_id, situation, KNOWN_SECONDS)
        usual = self._usual.get((drafter.group, situation.kind), 0.0)
        return known is not None and known.pays and known.tokens_per_step < SLOW * usual

    def pays(self, now: float, drafter: Drafter, situation: Situation) -> bool:
        """Whether drafting by it was worth its cost, as far as is known."""
        known = self._lately(now, drafter.drafter_id, situation, PAYS_SECONDS)
        return known is None or known.pays

    def _lately(self, now: float, drafter_id: str, situation: Situation, seconds: float) -> _Known | None:
        known = self._known.get((drafter_id, situation.kind))
        return known if known is not None and now - known.at < seconds else None

    # -- who drafts ----------------------------------------------------------------------------------------------------

    def choose(
        self, now: float, drafters: Iterable[Drafter], situation: Situation, taken: Collection[str] = ()
    ) -> list[Drafter]:
        """One of each group that pays and is not ``taken``: the least busy of those that keep up, or of all of them if
        none does."""
        groups: dict[str, list[Drafter]] = {}
        for drafter in drafters:
            free = drafter.sessions < drafter.max_sessions and drafter.group not in taken
            if free and self.pays(now, drafter, situation):
                groups.setdefault(drafter.group, []).append(drafter)

        def rank(drafter: Drafter) -> tuple[bool, int, str]:
            return self.behind(now, drafter, situation), drafter.sessions, drafter.drafter_id

        return [min(group, key=rank) for _, group in sorted(groups.items())]

    def replacement(
        self, now: float, present: Drafter, others: Iterable[Drafter], situation: Situation
    ) -> Drafter | None:
        """Another of its group for a drafter that has fallen behind or does not pay; None: it stays."""
        if self.pays(now, present, situation) and not self.behind(now, present, situation):
            return None
        alike = [d for d in others if d.group == present.group and d.drafter_id != present.drafter_id]
        better = [d for d in alike if not self.behind(now, d, situation)]
        return next(iter(self.choose(now, better, situation)), None)
