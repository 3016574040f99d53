"""From a configuration to a drafter of its kind; torch is imported only for kinds that need it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from drafter_service.config import DrafterConfig
from drafter_service.drafters.base import DraftKind
from drafter_service.drafters.ngram import NgramDrafter
from drafter_service.drafters.recycling import RecyclingDrafter
from drafter_service.drafters.trigram import TrigramDrafter
from drafter_service.service import Drafter
from paceline.checkpoint import resolve, tokenizer_hash
from paceline.messages import DrafterDescription

_LOOKUPS: dict[str, Callable[[], DraftKind]] = {
    "ngram": NgramDrafter,
    "recycling": RecyclingDrafter,
    "trigram": TrigramDrafter,
}


@dataclass(frozen=True)
class Loaded:
    """A drafter and how it describes itself."""

    drafter: Drafter
    describe: Callable[[], DrafterDescription]


def load_drafter(config: DrafterConfig) -> Loaded:
    """Loads what the kind needs. A drafter without a model takes any vocabulary (size 0)."""
    if config.kind in ("model", "rag"):
        kind, vocabulary_size, max_context = _load_model(config)
    else:
        kind, vocabulary_size, max_context = _LOOKUPS[config.kind](), 0, config.max_context
    drafter = Drafter(
        kind,
        drafter_id=config.worker_name,
        vocabulary_size=vocabulary_size,
        max_context=max_context,
        max_sessions=config.max_sessions,
    )

    vocabulary = tokenizer_hash(resolve(config.model)) if config.model else ""

    def describe() -> DrafterDescription:
        return DrafterDescription(
            drafter_id=drafter.drafter_id,
            kind=config.kind,
            model=Path(config.model).absolute().name if config.model else "",
            vocabulary_size=vocabulary_size,
            tokenizer_hash=vocabulary,
            price_per_hour=config.price_per_hour,
            max_sessions=config.max_sessions,
            attached_sessions=drafter.attached_sessions,
            max_context=max_context,
            incarnation=drafter.incarnation,
        )

    return Loaded(drafter, describe)


def _load_model(config: DrafterConfig) -> tuple[DraftKind, int, int]:
    import torch

    from drafter_service.drafters.model import ModelDrafter
    from paceline.emulation import Pace
    from paceline.engine.runner import ModelRunner
    from paceline.engine.warmup import warm_up

    assert config.model is not None, "checked by the configuration"
    torch.set_num_threads(config.threads)
    runner = ModelRunner.load(
        resolve(config.model), cache_tokens=config.cache_tokens, device=config.device, dtype=config.dtype
    )
    warm_up(runner)
    runner.pace = Pace.parse(config.emulate_step_time)
    if config.kind == "rag":
        from drafter_service.drafters.rag import RagDrafter

        return RagDrafter(runner, config.draft_context), runner.config.vocabulary_size, config.max_context
    return ModelDrafter(runner), runner.config.vocabulary_size, runner.config.max_context
