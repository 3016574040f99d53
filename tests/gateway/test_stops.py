"""Stop strings: the same text however tokens come, cut where the first of them begins, nothing of it shown before."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from gateway.stops import StopStrings, Token

PIECES = st.lists(st.text("ab\n", max_size=3), max_size=12)
STOPS = st.lists(st.text("ab\n", min_size=1, max_size=4), min_size=1, max_size=3)


def shown(pieces: list[str], stops: StopStrings, size: int, rest: str = "") -> tuple[list[Token], str]:
    """All tokens that are shown, given in steps of ``size``, and the rest."""
    tokens = [Token(index, piece) for index, piece in enumerate(pieces)]
    seen: list[Token] = []
    for start in range(0, len(tokens), size):
        seen += stops.add(tokens[start : start + size])
    held, rest = stops.flush(rest)
    return [*seen, *held], rest


@given(pieces=PIECES, stop=STOPS, size=st.integers(1, 5), rest=st.text("ab", max_size=2))
def test_the_text_ends_before_the_first_stop_string(pieces: list[str], stop: list[str], size: int, rest: str) -> None:
    stops = StopStrings(stop)
    tokens, after = shown(pieces, stops, size, rest)
    whole, ends = "", None
    for count, piece in enumerate([*pieces, rest], 1):  # the token that completes a stop string is the last one
        whole += piece
        if any(s in whole for s in stop):
            ends = count
            break
    assert bool(stops.found) is (ends is not None)
    if ends is None:
        assert "".join(t.piece for t in tokens) + after == "".join(pieces) + rest
        assert len(tokens) == len(pieces)
        return
    first = min(whole.index(s) for s in stop if s in whole)
    assert "".join(t.piece for t in tokens) + after == whole[:first]
    assert whole[first:].startswith(stops.found)
    assert [t.token_id for t in tokens] == list(range(min(ends, len(pieces))))


@given(pieces=PIECES, stop=STOPS)
def test_what_may_begin_a_stop_string_waits(pieces: list[str], stop: list[str]) -> None:
    stops, text, emitted = StopStrings(stop), "", ""
    for index, piece in enumerate(pieces):
        text += piece
        emitted += "".join(t.piece for t in stops.add([Token(index, piece)]))
        assert text.startswith(emitted)
        for s in stop:
            for size in range(1, len(s)):
                if text.endswith(s[:size]) and not stops.found:
                    assert len(emitted) <= len(text) - size


def test_tokens_before_min_tokens_are_not_searched() -> None:
    stops = StopStrings(["ab"], min_tokens=2)
    tokens, _ = shown(["ab", "a", "b", "ab", "c"], stops, 1)
    assert [t.piece for t in tokens] == ["ab", "a", "b", ""]


def test_without_stop_strings_nothing_waits() -> None:
    stops = StopStrings(())
    assert [t.piece for t in stops.add([Token(1, "a"), Token(2, "")])] == ["a", ""]
