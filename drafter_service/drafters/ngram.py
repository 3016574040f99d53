"""Drafts by looking up how the text went on where it read the same before, or in the client's prediction.

Input-guided Aggressive Decoding (Sun et al. 2021) and prompt lookup (Saxena 2023): text that is being edited, quoted or
repeated is its own best drafter. Here matches of all lengths count, and several places give a tree.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Sequence

from drafter_service.drafters.lookup import Branch, Branches, LookupDrafter
from drafter_service.session import DraftSession

LONGEST = 6
"""Longest match that is told apart."""
PLACES = 4
"""Places looked at for each length of match, the latest first."""
WEIGHT = 4.0
"""A match that is one token longer counts so many times more."""
STRONGEST = 12
PRIORS = (0.0, 0.15, 0.35, 0.55, 0.7, 0.8, 0.85, 0.9)
"""Chance that the next token repeats, too, by length of the match (measured on held-out code, docs/log.md)."""
_BREAK = -1
"""Between prediction and text; no token."""

Place = tuple[tuple[int, int], ...]
"""Positions after matches, with the lengths of the matches."""


class Repetitions:
    """Where each n-gram of a text ended: the latest position after it, and for each position the one before."""

    def __init__(self, corpus: Sequence[int] = ()) -> None:
        self.tokens: list[int] = []
        self._latest: list[dict[int, int]] = [{} for _ in range(LONGEST)]
        self._earlier = [array("i") for _ in range(LONGEST)]
        self.extend([*corpus, _BREAK] if corpus else ())

    def extend(self, token_ids: Sequence[int]) -> None:
        """Indexes new tokens; an n-gram is entered when a token follows it."""
        for token_id in token_ids:
            end = len(self.tokens)
            for length in range(1, LONGEST + 1):
                known = self._earlier[length - 1]
                if end < length:
                    known.append(-1)
                    continue
                latest, key = self._latest[length - 1], hash(tuple(self.tokens[end - length :]))
                known.append(latest.get(key, -1))
                latest[key] = end
            self.tokens.append(token_id)

    def matches(self) -> Iterator[tuple[int, int]]:
        """Positions after earlier occurrences of the text's last tokens, longest and latest first, each once."""
        seen = set[int]()
        for length in range(min(LONGEST, len(self.tokens)), 0, -1):
            end = self._latest[length - 1].get(hash(tuple(self.tokens[-length:])), -1)
            for _ in range(PLACES):
                if end < 0:
                    break
                if end not in seen:
                    seen.add(end)
                    yield end, length
                end = self._earlier[length - 1][end]


class NgramDrafter(LookupDrafter[tuple[Repetitions, Place]]):
    """Looks up the session's own text and its prediction."""

    name = "ngram"

    def __init__(self) -> None:
        super().__init__(PRIORS)
        self._texts: dict[str, Repetitions] = {}

    def opened(self, session: DraftSession) -> None:
        self._texts[session.session_id] = text = Repetitions(session.attach.prediction)
        text.extend(session.tokens)

    def extended(self, session: DraftSession, token_ids: Sequence[int]) -> None:
        self._texts[session.session_id].extend(token_ids)

    def closed(self, session: DraftSession) -> None:
        del self._texts[session.session_id]

    def begin(self, session: DraftSession) -> tuple[Repetitions, Place] | None:
        text = self._texts[session.session_id]
        found = tuple(text.matches())
        return (text, found) if found else None

    def follow(self, place: tuple[Repetitions, Place]) -> Branches[tuple[Repetitions, Place]] | None:
        text, positions = place
        further: dict[int, list[tuple[int, int]]] = {}
        for end, length in positions:
            if end < len(text.tokens) and text.tokens[end] != _BREAK:
                further.setdefault(text.tokens[end], []).append((end + 1, min(length + 1, STRONGEST)))
        if not further:
            return None
        weights = {token: sum(WEIGHT**length for _, length in ends) for token, ends in further.items()}
        total = sum(weights.values())
        branches = [
            Branch(token, weight / total, (text, tuple(further[token])))
            for token, weight in sorted(weights.items(), key=lambda item: -item[1])
        ]
        return Branches(max(length for _, length in positions), branches)
