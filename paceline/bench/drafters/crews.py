"""Who drafts in ``bench drafters``: each kind alone, useful combinations, and kinds without what makes them."""

from __future__ import annotations

from collections.abc import Callable

from drafter_service.drafters.base import DraftKind
from drafter_service.drafters.model import ModelDrafter
from drafter_service.drafters.ngram import NgramDrafter
from drafter_service.drafters.rag import RagDrafter
from drafter_service.drafters.recycling import RecyclingDrafter
from drafter_service.drafters.trigram import TrigramDrafter
from paceline.embedded import DRAFT
from paceline.engine.runner import ModelRunner

COMBINED = "model+ngram"
CREWS = ("model", "ngram", "recycling", "trigram", "rag", COMBINED)
ABLATIONS = (
    "recycling without updates", "recycling without memory", "trigram without exploration", "trigram without memory",
    "rag without retrieval",
)  # fmt: skip


class Makers:
    """Makes drafters by name; the draft model is loaded once."""

    def __init__(self) -> None:
        self._runner = ModelRunner.load(DRAFT, cache_tokens=1 << 14)
        self._makers: dict[str, Callable[[], DraftKind]] = {
            "model": lambda: ModelDrafter(self._runner),
            "ngram": NgramDrafter,
            "rag": lambda: RagDrafter(self._runner),
            "rag without retrieval": lambda: RagDrafter(self._runner, retrieval=False),
            "recycling": RecyclingDrafter,
            "recycling without updates": lambda: RecyclingDrafter(updates=False),
            "recycling without memory": lambda: RecyclingDrafter(memory=False),
            "trigram": TrigramDrafter,
            "trigram without exploration": lambda: TrigramDrafter(exploration=0.0),
            "trigram without memory": lambda: TrigramDrafter(memory=False),
        }

    def crew(self, name: str) -> list[DraftKind]:
        """Fresh drafters for a name such as ``model+ngram``; none for ``off``."""
        return [] if name == "off" else [self._makers[part]() for part in name.split("+")]
