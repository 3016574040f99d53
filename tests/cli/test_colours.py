"""Tokens on a terminal: who guessed them can be seen, and the text is never changed."""

from __future__ import annotations

import io
import re

import pytest

from paceline.cli.colours import STYLES, Colours
from paceline.cli.generate import painted
from paceline.messages import Chunk

TEXT = "tab\there, [bold]no markup[/bold]\n    é"


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def plain_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("NO_COLOR", "FORCE_COLOR", "TTY_COMPATIBLE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm")


def without_codes(text: str) -> str:
    return re.sub(r"\x1b\[[0-9;]*m", "", text)


def test_each_drafter_has_a_look_of_its_own_and_the_target_none() -> None:
    colours = Colours.of(Terminal())
    painted = [colours.paint(TEXT, [f"drafter {index}"]) for index in range(len(STYLES))]
    assert len({*painted, TEXT}) == len(STYLES) + 1
    assert [without_codes(text) for text in painted] == [TEXT] * len(STYLES)
    assert all(text.endswith("\x1b[0m") for text in painted)
    assert colours.paint(TEXT, []) == TEXT
    assert colours.paint(TEXT, ["drafter 0"]) == painted[0]


def test_what_several_guessed_looks_different_from_what_one_did() -> None:
    colours = Colours.of(Terminal())
    assert len({colours.paint("x", names) for names in (["a"], ["b"], ["a", "b"], ["b", "a"])}) == 4


def test_more_drafters_than_looks_are_painted_all_the_same() -> None:
    colours = Colours.of(Terminal())
    painted = [colours.paint("x", [f"drafter {index}"]) for index in range(len(STYLES) + 1)]
    assert painted[-1] == painted[0]


def test_the_legend_names_all_in_their_looks() -> None:
    colours = Colours.of(Terminal())
    assert colours.legend() == ""
    painted = [colours.paint(name, [name]) for name in ("draft", "ngram")]
    legend = colours.legend()
    assert all(name in legend for name in painted)
    assert without_codes(legend) == "guessed by: draft, ngram, several of them, plain: the target itself"


@pytest.mark.parametrize("name", ["NO_COLOR", "TERM", "pipe"])
def test_plain_where_colours_are_not_wanted(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if name != "pipe":
        monkeypatch.setenv(name, "dumb")
    colours = Colours.of(io.StringIO() if name == "pipe" else Terminal())
    assert (colours.paint(TEXT, ["draft"]), colours.legend()) == (TEXT, "")


def test_a_chunk_is_painted_token_by_token() -> None:
    chunk = Chunk("s", "ab", (1, 2), 0, piece_lengths=(1, 1), drafters=(("draft",), ()))
    assert painted(chunk, Colours(on=False)) == "ab"
    shown = painted(chunk, Colours(on=True))
    assert shown != "ab"
    assert shown.endswith("b")
    assert painted(Chunk("s", "ab"), Colours(on=True)) == "ab"
