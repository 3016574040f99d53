"""What a text may be held to. Who enforces it, and how, is the verifier's matter."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from paceline.speculation.fields import require

MAX_GRAMMAR = 1 << 18
"""Characters."""


class GrammarKind(Enum):
    JSON_SCHEMA = "json_schema"
    REGEX = "regex"
    EBNF = "ebnf"
    CHOICES = "choices"
    """A JSON array of strings."""


@dataclass(frozen=True)
class Grammar:
    """A constraint on the whole text. ``backend`` empty: the verifier's default."""

    kind: GrammarKind
    text: str
    backend: str = ""

    def __post_init__(self) -> None:
        size = len(self.text)
        require(0 < size <= MAX_GRAMMAR, self.kind.value, f"{size} characters", f"1 to {MAX_GRAMMAR} characters")
        require(len(self.backend) <= 64, "backend", f"{len(self.backend)} characters", "at most 64")
