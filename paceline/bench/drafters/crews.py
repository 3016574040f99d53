"""Who drafts in ``bench drafters``: each kind alone, useful combinations, and kinds without what makes them."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from functools import cached_property
from pathlib import Path

from drafter_service.drafters.base import DraftKind
from drafter_service.drafters.datastore import DatastoreDrafter
from drafter_service.drafters.model import ModelDrafter
from drafter_service.drafters.ngram import NgramDrafter
from drafter_service.drafters.rag import RagDrafter
from drafter_service.drafters.recycling import RecyclingDrafter
from drafter_service.drafters.suffix import SuffixDrafter
from drafter_service.drafters.trigram import TrigramDrafter
from drafter_service.memory import SuffixMemory
from paceline.checkpoint import tokenizer_hash
from paceline.datastore import build_datastore
from paceline.embedded import DRAFT, TARGET
from paceline.engine.runner import ModelRunner
from paceline.training.corpus import standard_library

COMBINED = "model+ngram+suffix"
CREWS = ("model", "ngram", "suffix", "recycling", "trigram", "datastore", "rag", "ngram+suffix", COMBINED)
ABLATIONS = (
    "recycling without updates", "recycling without memory", "trigram without exploration", "trigram without memory",
    "rag without retrieval",
)  # fmt: skip
MEMORY_TOKENS, MEMORY_TEXTS = 1_000_000, 1000


class Makers:
    """Makes drafters by name; the draft model is loaded and the datastore built once."""

    def __init__(self) -> None:
        self._runner = ModelRunner.load(DRAFT, cache_tokens=1 << 14)
        self._makers: dict[str, Callable[[], DraftKind]] = {
            "model": lambda: ModelDrafter(self._runner),
            "ngram": NgramDrafter,
            "suffix": lambda: SuffixDrafter(SuffixMemory(MEMORY_TOKENS, MEMORY_TEXTS)),
            "recycling": RecyclingDrafter,
            "recycling without updates": lambda: RecyclingDrafter(updates=False),
            "recycling without memory": lambda: RecyclingDrafter(memory=False),
            "trigram": TrigramDrafter,
            "trigram without exploration": lambda: TrigramDrafter(exploration=0.0),
            "trigram without memory": lambda: TrigramDrafter(memory=False),
            "datastore": lambda: DatastoreDrafter(self._datastore, tokenizer_hash(TARGET)),
            "rag": lambda: RagDrafter(self._runner),
            "rag without retrieval": lambda: RagDrafter(self._runner, retrieval=False),
        }

    def crew(self, name: str) -> list[DraftKind]:
        """Fresh drafters for a name such as ``model+ngram``; none for ``off``."""
        return [] if name == "off" else [self._makers[part]() for part in name.split("+")]

    @cached_property
    def _datastore(self) -> Path:
        """Of the library's files that were not held out: the texts to draft for are none of them."""
        self._directory = tempfile.TemporaryDirectory(prefix="paceline-datastore-")
        corpus, out = (Path(self._directory.name) / name for name in ("corpus.jsonl", "datastore"))
        texts = [document.text for document in standard_library() if not document.held_out]
        corpus.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
        build_datastore(corpus, out, str(TARGET))
        return out
