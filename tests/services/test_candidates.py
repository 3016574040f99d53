"""Drafters that ask are told the target's best tokens; the others are not."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from drafter_service.drafters.ngram import NgramDrafter
from drafter_service.session import DraftSession
from paceline.speculation.sampling import SamplingParameters
from tests.in_process import InProcess, load, make_drafter
from verifier_service.steps import CANDIDATES

PROMPT = [1, 2, 3, 1, 2, 3, 1, 2]
GREEDY = SamplingParameters(max_tokens=40, temperature=0)


class Listener(NgramDrafter):
    """Keeps what it learns, by position."""

    def __init__(self, *, wants: bool) -> None:
        super().__init__()
        self.wants_candidates = wants
        self.learned: dict[int, Sequence[int]] = {}

    def learn(self, session: DraftSession, candidates: Sequence[Sequence[int]]) -> None:
        first = len(session.tokens) - len(candidates)
        self.learned.update(enumerate(candidates, first))


def test_the_best_candidate_is_the_greedy_text_itself(target_path: Path) -> None:
    asking, quiet = Listener(wants=True), Listener(wants=False)
    world = InProcess(load(target_path), [make_drafter(asking, 64, "asking"), make_drafter(quiet, 64, "quiet")])
    world.open("s", PROMPT, GREEDY)
    world.run()
    text = [*PROMPT, *world.recorder.tokens["s"]]
    assert len(asking.learned) > 20
    for position, candidates in asking.learned.items():
        assert candidates[0] == text[position]
        assert len(set(candidates)) == CANDIDATES
    assert quiet.learned == {}
