"""From a configuration to a drafter of its kind; torch is imported only for kinds that need it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from drafter_service.config import DrafterConfig
from drafter_service.drafters.base import DraftKind
from drafter_service.drafters.ngram import NgramDrafter
from drafter_service.drafters.recycling import RecyclingDrafter
from drafter_service.drafters.trigram import TrigramDrafter
from drafter_service.service import Drafter
from paceline.checkpoint import resolve, resolve_tokenizer, tokenizer_hash
from paceline.messages import DrafterDescription

if TYPE_CHECKING:  # redis is imported where it is configured
    from drafter_service.memory import SuffixMemory
    from paceline.cluster.fleet_memory import TextReader


@dataclass(frozen=True)
class Loaded:
    """A drafter and how it describes itself."""

    drafter: Drafter
    describe: Callable[[], DrafterDescription]
    reader: TextReader | None = None
    """What tells it of the fleet's texts, to be started."""


@dataclass(frozen=True)
class _Built:
    """A kind, the vocabulary that it knows (0: any), the longest text that it follows, and who tells it of others'."""

    kind: DraftKind
    vocabulary_size: int
    max_context: int
    reader: TextReader | None = None


def load_drafter(config: DrafterConfig) -> Loaded:
    """Loads what the kind needs."""
    built = _synthetic(config) if config.emulate_acceptance else _BUILDERS[config.kind](config)
    drafter = Drafter(
        built.kind,
        drafter_id=config.worker_name,
        vocabulary_size=built.vocabulary_size,
        max_context=built.max_context,
        max_sessions=config.max_sessions,
    )
    vocabulary = _tokenizer_hash(config)

    def describe() -> DrafterDescription:
        return DrafterDescription(
            drafter_id=drafter.drafter_id,
            kind=config.kind,
            model=Path(config.model).absolute().name if config.model else "",
            vocabulary_size=built.vocabulary_size,
            tokenizer_hash=vocabulary,
            price_per_hour=config.price_per_hour,
            max_sessions=config.max_sessions,
            attached_sessions=drafter.attached_sessions,
            max_context=built.max_context,
            incarnation=drafter.incarnation,
            verifiers=config.verifiers,
        )

    return Loaded(drafter, describe, built.reader)


def _tokenizer_hash(config: DrafterConfig) -> str:
    if config.tokenizer:
        return tokenizer_hash(resolve_tokenizer(config.tokenizer))
    return tokenizer_hash(resolve(config.model)) if config.model else ""


def _needed_hash(config: DrafterConfig) -> str:
    return tokenizer_hash(resolve_tokenizer(config.tokenizer or config.model or ""))


def _model(config: DrafterConfig) -> _Built:
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

        return _Built(RagDrafter(runner, config.draft_context), runner.config.vocabulary_size, config.max_context)
    return _Built(ModelDrafter(runner), runner.config.vocabulary_size, runner.config.max_context)


def _plain(kind: Callable[[], DraftKind]) -> Callable[[DrafterConfig], _Built]:
    """Of a kind that needs nothing and takes any vocabulary."""
    return lambda config: _Built(kind(), 0, config.max_context)


def _synthetic(config: DrafterConfig) -> _Built:
    from drafter_service.drafters.synthetic import SyntheticLookup, SyntheticModel
    from paceline.emulation import Pace
    from paceline.synthetic import SyntheticDrafts

    drafts, pace = SyntheticDrafts.parse(config.emulate_acceptance), Pace.parse(config.emulate_step_time)
    assert drafts is not None, "it is asked for"
    make = SyntheticModel if config.kind in ("model", "rag") else SyntheticLookup
    return _Built(make(config.kind, drafts, pace), 0, config.max_context)


def _suffix(config: DrafterConfig) -> _Built:
    from drafter_service.drafters.suffix import Snapshot, SuffixDrafter
    from drafter_service.memory import SuffixMemory

    memory = SuffixMemory(config.memory_tokens, config.suffix_decoding_max_cached_requests)
    drafter = SuffixDrafter(
        memory,
        Snapshot(config.snapshot, _needed_hash(config)) if config.snapshot else None,
        told=config.redis is not None,
        max_tree_depth=config.suffix_decoding_max_tree_depth,
        max_spec_factor=config.suffix_decoding_max_spec_factor,
        min_token_prob=config.suffix_decoding_min_token_prob,
    )
    return _Built(drafter, 0, config.max_context, _reader(config, memory))


def _reader(config: DrafterConfig, memory: SuffixMemory) -> TextReader | None:
    """Fills the memory from the fleet's stream, from where a snapshot ends."""
    if config.redis is None:
        return None
    from paceline.cluster.fleet_memory import FinishedText, TextReader

    def take(text: FinishedText, position: str) -> None:
        memory.remember(text.cache_scope, text.token_ids)
        memory.position = position

    return TextReader(config.redis, _needed_hash(config), take, memory.position)


def _datastore(config: DrafterConfig) -> _Built:
    from drafter_service.drafters.datastore import DatastoreDrafter

    assert config.datastore is not None, "checked by the configuration"
    return _Built(DatastoreDrafter(config.datastore, _needed_hash(config)), 0, config.max_context)


_BUILDERS: dict[str, Callable[[DrafterConfig], _Built]] = {
    "model": _model,
    "ngram": _plain(NgramDrafter),
    "suffix": _suffix,
    "recycling": _plain(RecyclingDrafter),
    "trigram": _plain(TrigramDrafter),
    "datastore": _datastore,
    "rag": _model,
}
