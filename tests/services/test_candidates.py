"""Drafters that ask are told the target's best tokens, on the text and beside it; the others are not."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from drafter_service.drafters.lookup import Branch, Branches, LookupDrafter
from drafter_service.drafters.ngram import NgramDrafter
from drafter_service.session import DraftSession
from paceline.speculation.accept import NodeCandidates
from paceline.speculation.policy import SpeculationParameters
from paceline.speculation.sampling import SamplingParameters
from tests.compare import float64_logits
from tests.in_process import InProcess, load, make_drafter
from verifier_service.steps import BESIDE, CANDIDATES

PROMPT = [1, 2, 3, 1, 2, 3, 1, 2]
GREEDY = SamplingParameters(max_tokens=40, temperature=0)


class Listener(NgramDrafter):
    """Keeps what it learns, by position."""

    def __init__(self, *, wants: bool) -> None:
        super().__init__()
        self.wants_candidates = wants
        self.learned: dict[int, Sequence[int]] = {}
        self.beside: list[tuple[list[int], NodeCandidates]] = []
        """With the text up to the root that they were verified under."""

    def learn(
        self, session: DraftSession, candidates: Sequence[Sequence[int]], beside: Sequence[NodeCandidates] = ()
    ) -> None:
        first = len(session.tokens) - len(candidates)
        self.learned.update(enumerate(candidates, first))
        self.beside += [(session.tokens[:first], node) for node in beside]


class Wrong(LookupDrafter[int]):
    """Says that anything may come next."""

    name = "wrong"

    def begin(self, session: DraftSession) -> int:
        return 0

    def follow(self, place: int) -> Branches[int]:
        return Branches(0, [Branch(token_id, 1 / 40, place) for token_id in range(20, 60)])


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
    assert (quiet.learned, quiet.beside) == ({}, [])


def test_beside_the_text_it_is_what_would_have_come_next(target_path: Path) -> None:
    """With trees of one level each node stands right after the root."""
    asking, wrong = Listener(wants=True), Wrong(priors=(0.9,))
    world = InProcess(load(target_path), [make_drafter(asking, 64, "asking"), make_drafter(wrong, 64, "wrong")])
    world.open("s", PROMPT, GREEDY, SpeculationParameters(max_draft_nodes=64, draft_depth=1, draft_width=BESIDE + 8))
    world.run()
    assert len(asking.beside) > 40
    told = [len(verdict.beside) for link in world.links for heard in link.forward.heard for verdict in heard.verdicts]
    assert max(told) == BESIDE
    text = [*PROMPT, *world.recorder.tokens["s"]]
    for before, node in asking.beside[::7]:
        assert before == text[: len(before)]
        assert node.token_id != text[len(before)]
        expected = float64_logits(target_path, [*before, node.token_id])[-1].argsort()[::-1]
        assert list(node.best) == expected[:CANDIDATES].tolist()
