"""What can enforce a grammar, as the verifier sees it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt

from paceline.speculation.grammar import Grammar

Allowed = npt.NDArray[np.bool_]
"""``[vocabulary]``: the tokens that may come next."""
Bits = npt.NDArray[np.uint8]
"""The same with one bit a token, lowest bit first: ``[ceil(vocabulary / 8)]`` or a little longer."""


class GrammarFailed(Exception):
    """A grammar cannot be followed any further: a limit was hit, or no token of the vocabulary continues the text."""


class State(Protocol):
    """Where a text stands in its grammar. Not for two threads at once."""

    def copy(self) -> State: ...

    def advance(self, token_id: int) -> bool:
        """Takes a token, not one that ends the text; False leaves the state unusable."""
        ...

    def rollback(self, count: int) -> None:
        """Takes back the last ``count`` tokens."""

    def admits(self, token_ids: Sequence[int]) -> int:
        """How many of these tokens could come next, one after the other; changes nothing."""
        ...

    def bits(self) -> Bits:
        """What may come next, stop tokens only where the text is complete. Raises ``GrammarFailed``."""
        ...

    def forced(self) -> list[int]:
        """Tokens that spell what must come next whatever is chosen, as the tokenizer would; often none."""
        ...


class Compiled(Protocol):
    """A grammar that any number of texts may follow; safe from any thread."""

    def start(self) -> State: ...


class Backend(Protocol):
    """One library that compiles grammars for one vocabulary; safe from any thread."""

    name: str
    version: str

    def load(self) -> None:
        """Imports and builds what every grammar needs, if that was not done yet; may take seconds the first time."""

    def compile(self, grammar: Grammar) -> Compiled:
        """Raises ``FieldError`` that names the grammar's field and what is wrong with it."""
        ...
