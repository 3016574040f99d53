"""How models and workers describe themselves."""

from __future__ import annotations

from dataclasses import dataclass

PROTOCOL_VERSION = 1


@dataclass(frozen=True)
class ModelInfo:
    name: str
    vocabulary_size: int
    max_context: int
    tokenizer_hash: str
    stop_token_ids: tuple[int, ...]


@dataclass(frozen=True)
class Fingerprint:
    """The target as it is computed."""

    weights: str
    dtype: str
    engine: str
    device_kind: str
    tensor_parallel_size: int
    numerics: str
    grammar: str = ""
    """What can enforce a grammar, with versions, the default first."""


@dataclass(frozen=True)
class VerifierDescription:
    verifier_id: str
    model: ModelInfo
    fingerprint: Fingerprint
    max_sessions: int
    running_sessions: int
    waiting_sessions: int
    free_blocks: int
    total_blocks: int
    protocol_version: int = PROTOCOL_VERSION
    incarnation: int = 0
    """Grows with every start of the verifier."""


@dataclass(frozen=True)
class Pulse:
    """A verifier's sign of life."""

    draining: bool = False
    """It is about to stop."""
    stalled: bool = False
    """A step has been going on for too long."""

    @property
    def well(self) -> bool:
        """Whether it takes sessions on; else those that it has should go on elsewhere."""
        return not (self.draining or self.stalled)


@dataclass(frozen=True)
class DrafterDescription:
    drafter_id: str
    kind: str
    model: str
    vocabulary_size: int
    tokenizer_hash: str
    price_per_hour: float
    max_sessions: int
    attached_sessions: int
    max_context: int
    incarnation: int
    protocol_version: int = PROTOCOL_VERSION
    verifiers: tuple[str, ...] = ()
    """Addresses that it may dial; empty: it does not say."""

    def drafts_for(self, verifier: str) -> bool:
        """Whether it may dial the verifier at this address, as far as it says."""
        return not self.verifiers or verifier in self.verifiers


@dataclass(frozen=True)
class TokenizerFiles:
    """What a gateway needs to speak text."""

    tokenizer_hash: str
    tokenizer_json: bytes
    chat_template: str
    special_tokens: dict[str, str]


@dataclass(frozen=True)
class Worker:
    worker_id: str
    role: str
    kind: str
    address: str
    healthy: bool
    model: str
    price_per_hour: float
    sessions: int
    max_sessions: int
