"""Stop strings: found across the borders of tokens, and never shown, not even their beginnings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from paceline.speculation.logprobs import TokenLogprobs


@dataclass(frozen=True)
class Token:
    """A committed token, the text it has completed, and what else is told of it."""

    token_id: int
    piece: str
    logprobs: TokenLogprobs | None = None
    drafters: tuple[str, ...] | None = None


class StopStrings:
    """Holds tokens back for as long as their text may be the beginning of a stop string.

    What comes out is a function of the tokens alone, however they came in steps. The first ``min_tokens`` tokens are
    not searched.
    """

    def __init__(self, stop: Sequence[str], min_tokens: int = 0) -> None:
        self._stop, self._unsearched = tuple(stop), min_tokens
        self._held: list[Token] = []
        self._text = ""
        """Of the tokens that are held back."""
        self.found = ""
        """The stop string that has ended the text."""

    def add(self, tokens: Sequence[Token]) -> list[Token]:
        """The tokens that may be shown. Once a stop string is ``found`` they end with the one that completed it, the
        text before it is all that is left of their pieces, and what comes later is dropped."""
        if not self._stop:
            return list(tokens)
        shown: list[Token] = []
        for token in tokens:
            if self.found:
                break
            if self._unsearched:
                self._unsearched -= 1
                shown.append(token)
                continue
            self._held.append(token)
            self._text += token.piece
            self._search()
            shown += self._release(len(self._text) - (0 if self.found else self._beginning()))
        return shown

    def flush(self, rest: str = "") -> tuple[list[Token], str]:
        """The text is over, with ``rest`` after its last token: what was held back, and what of the rest is shown."""
        if self.found:
            return [], ""
        before = len(self._text)
        self._text += rest
        if self._stop and not self._unsearched:
            self._search()
        shown, held = self._text, self._held
        self._held, self._text = [], ""
        return _cut(held, len(shown)), shown[before:]

    def _search(self) -> None:
        """Cuts the held text where the first stop string begins."""
        begins = {self._text.find(stop): stop for stop in reversed(self._stop) if stop in self._text}
        if begins:
            first = min(begins)
            self.found = begins[first]
            self._text = self._text[:first]

    def _beginning(self) -> int:
        """Characters at the end of the held text that may be the beginning of a stop string."""
        most = min(len(self._text), max(map(len, self._stop)) - 1)
        ends = (self._text[-size:] for size in range(most, 0, -1))
        return next((len(end) for end in ends if any(stop.startswith(end) for stop in self._stop)), 0)

    def _release(self, length: int) -> list[Token]:
        """The held tokens whose text lies within the first ``length`` characters; all of them, cut, at the end."""
        if self.found:
            held, self._held = self._held, []
            return _cut(held, length)
        count = end = 0
        for token in self._held:
            if end + len(token.piece) > length:
                break
            count, end = count + 1, end + len(token.piece)
        released, self._held, self._text = self._held[:count], self._held[count:], self._text[end:]
        return released


def _cut(tokens: Sequence[Token], length: int) -> list[Token]:
    """The tokens with the first ``length`` characters of their text."""
    kept: list[Token] = []
    for token in tokens:
        piece = token.piece[:length]
        length -= len(piece)
        kept.append(replace(token, piece=piece))
    return kept
