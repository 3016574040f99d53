"""A synthetic text is the same for all; drafters are right about it as often as they are told to be."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from paceline.emulation import SyntheticAcceptance
from paceline.speculation.fields import FieldError
from paceline.speculation.tree import Selection
from paceline.synthetic import (
    FIRST_TOKEN,
    RANKS,
    TOKENS,
    SyntheticDrafts,
    SyntheticTarget,
    SyntheticText,
    check_vocabulary,
    synthetic_choices,
    text_of,
    wrong_token,
)
from tests.test_emulation import chain_with_siblings

POSITIONS = range(20_000)


def test_a_text_depends_on_its_key_alone_however_it_is_asked_for() -> None:
    forwards, backwards = SyntheticText(7), SyntheticText(7)
    there = [(forwards.token(position), forwards.draw(position)) for position in range(1500)]
    assert there == [(backwards.token(position), backwards.draw(position)) for position in range(1499, -1, -1)][::-1]
    assert [SyntheticText(8).token(position) for position in range(20)] != [token for token, _ in there[:20]]
    assert all(FIRST_TOKEN <= token < FIRST_TOKEN + TOKENS for token, _ in there)


def test_a_wrong_token_is_never_the_target_s() -> None:
    text = text_of(3)
    for position in range(3000):
        truth = text.token(position)
        assert wrong_token(position, 5, 1, truth) != truth
        assert FIRST_TOKEN <= wrong_token(position, 5, 1, truth) < FIRST_TOKEN + TOKENS
    hit = wrong_token(1, 1, 1, -1)
    assert wrong_token(1, 1, 1, hit) != hit


def test_ranks_are_met_by_depth() -> None:
    """Within five standard deviations; the keys are fixed."""
    drafts, text = SyntheticDrafts((0.7, 0.4), further=0.5), text_of(11)
    for depth, chances in ((1, (0.7, 0.15, 0.075)), (2, (0.4, 0.3, 0.15)), (9, (0.4, 0.3, 0.15))):
        ranks = [drafts.rank(text, position, depth) for position in POSITIONS]
        for rank, chance in enumerate(chances, 1):
            error = 5 * math.sqrt(chance * (1 - chance) / len(ranks))
            assert abs(ranks.count(rank) / len(ranks) - chance) < error
            assert drafts.said(depth, RANKS)[rank - 1] == pytest.approx(math.log(chance))


def test_recorded_runs_are_replayed_from_a_place_that_the_key_chooses() -> None:
    runs = (3, 0, 5, 1)
    drafts = SyntheticDrafts((sum(runs) / (sum(runs) + len(runs)),), runs=runs)
    starts = set()
    for key in range(40):
        ranks = [drafts.rank(text_of(key), position, 1) for position in range(200)]
        lengths, run = [], 0
        for rank in ranks:
            run, ended = (run + 1, None) if rank == 1 else (0, run)
            lengths += [] if ended is None else [ended]
        start = next(at for at in range(4) if lengths == [runs[(at + index) % 4] for index in range(len(lengths))])
        starts.add(start)
    assert starts == {0, 1, 2, 3}


def test_what_drafters_know_is_read(tmp_path: Path) -> None:
    file = tmp_path / "runs"
    file.write_text("3\n0\n5\n")
    assert SyntheticDrafts.parse("") is None
    assert SyntheticDrafts.parse("0.9,0.8,further=0.3") == SyntheticDrafts((0.9, 0.8), 0.3)
    assert SyntheticDrafts.parse(f"trace={file}") == SyntheticDrafts((8 / 11,), runs=(3, 0, 5))


@pytest.mark.parametrize("text", ["often", "0.8,", "1.2", "nan", "0.5,further=2", "further=0.5", "color=0.5"])
def test_what_makes_no_sense_is_refused(text: str) -> None:
    with pytest.raises(FieldError, match=r"emulate_acceptance = .*: expected chances from 0 to 1 by depth"):
        SyntheticDrafts.parse(text)


@pytest.mark.parametrize("content", [None, "", "3 x", "-1"])
def test_a_bad_record_is_refused(tmp_path: Path, content: str | None) -> None:
    file = tmp_path / "runs"
    if content is not None:
        file.write_text(content)
    with pytest.raises(FieldError, match="lengths of accepted runs"):
        SyntheticDrafts.parse(f"trace={file}")


def test_the_target_says_its_text_whatever_is_drafted() -> None:
    tree, selection = chain_with_siblings(3)
    choice = SyntheticTarget().choice(lambda _: -1, selection, tree.root, 7)
    assert [choice(row) for row in range(2)] == [text_of(7).token(6), text_of(7).token(7)]
    alone = SyntheticTarget().choice(lambda _: -1, Selection((), (), ()), tree.root, 7)
    assert alone(0) == text_of(7).token(6)


def test_a_verifier_s_choices_are_rates_or_a_text() -> None:
    assert synthetic_choices("") is None
    assert isinstance(synthetic_choices("text"), SyntheticTarget)
    assert synthetic_choices("0.5") == SyntheticAcceptance((0.5,))
    check_vocabulary(FIRST_TOKEN + TOKENS)
    with pytest.raises(FieldError, match="emulate_acceptance = 'text'"):
        check_vocabulary(FIRST_TOKEN + TOKENS - 1)
