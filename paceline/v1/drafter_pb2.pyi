from paceline.v1 import common_pb2 as _common_pb2
from paceline.v1 import verifier_pb2 as _verifier_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class AttachRequest(_message.Message):
    __slots__ = ("session_id", "epoch", "verifier", "token_ids_u32", "prompt_length", "sampling", "speculation", "noise_key", "key", "prediction_u32", "model", "traceparent")
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    VERIFIER_FIELD_NUMBER: _ClassVar[int]
    TOKEN_IDS_U32_FIELD_NUMBER: _ClassVar[int]
    PROMPT_LENGTH_FIELD_NUMBER: _ClassVar[int]
    SAMPLING_FIELD_NUMBER: _ClassVar[int]
    SPECULATION_FIELD_NUMBER: _ClassVar[int]
    NOISE_KEY_FIELD_NUMBER: _ClassVar[int]
    KEY_FIELD_NUMBER: _ClassVar[int]
    PREDICTION_U32_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    TRACEPARENT_FIELD_NUMBER: _ClassVar[int]
    session_id: str
    epoch: int
    verifier: str
    token_ids_u32: bytes
    prompt_length: int
    sampling: _common_pb2.SamplingParameters
    speculation: _common_pb2.SpeculationParameters
    noise_key: int
    key: bytes
    prediction_u32: bytes
    model: str
    traceparent: str
    def __init__(self, session_id: _Optional[str] = ..., epoch: _Optional[int] = ..., verifier: _Optional[str] = ..., token_ids_u32: _Optional[bytes] = ..., prompt_length: _Optional[int] = ..., sampling: _Optional[_Union[_common_pb2.SamplingParameters, _Mapping]] = ..., speculation: _Optional[_Union[_common_pb2.SpeculationParameters, _Mapping]] = ..., noise_key: _Optional[int] = ..., key: _Optional[bytes] = ..., prediction_u32: _Optional[bytes] = ..., model: _Optional[str] = ..., traceparent: _Optional[str] = ...) -> None: ...

class AttachEvent(_message.Message):
    __slots__ = ("attached", "detached", "statistics")
    ATTACHED_FIELD_NUMBER: _ClassVar[int]
    DETACHED_FIELD_NUMBER: _ClassVar[int]
    STATISTICS_FIELD_NUMBER: _ClassVar[int]
    attached: Attached
    detached: Detached
    statistics: DraftingStatistics
    def __init__(self, attached: _Optional[_Union[Attached, _Mapping]] = ..., detached: _Optional[_Union[Detached, _Mapping]] = ..., statistics: _Optional[_Union[DraftingStatistics, _Mapping]] = ...) -> None: ...

class Attached(_message.Message):
    __slots__ = ("node_limit",)
    NODE_LIMIT_FIELD_NUMBER: _ClassVar[int]
    node_limit: int
    def __init__(self, node_limit: _Optional[int] = ...) -> None: ...

class Detached(_message.Message):
    __slots__ = ("reason",)
    REASON_FIELD_NUMBER: _ClassVar[int]
    reason: str
    def __init__(self, reason: _Optional[str] = ...) -> None: ...

class DraftingStatistics(_message.Message):
    __slots__ = ("forwards", "nodes", "busy_seconds", "idle_seconds")
    FORWARDS_FIELD_NUMBER: _ClassVar[int]
    NODES_FIELD_NUMBER: _ClassVar[int]
    BUSY_SECONDS_FIELD_NUMBER: _ClassVar[int]
    IDLE_SECONDS_FIELD_NUMBER: _ClassVar[int]
    forwards: int
    nodes: int
    busy_seconds: float
    idle_seconds: float
    def __init__(self, forwards: _Optional[int] = ..., nodes: _Optional[int] = ..., busy_seconds: _Optional[float] = ..., idle_seconds: _Optional[float] = ...) -> None: ...

class ProposeRequest(_message.Message):
    __slots__ = ("token_ids_u32", "sampling", "speculation", "noise_key")
    TOKEN_IDS_U32_FIELD_NUMBER: _ClassVar[int]
    SAMPLING_FIELD_NUMBER: _ClassVar[int]
    SPECULATION_FIELD_NUMBER: _ClassVar[int]
    NOISE_KEY_FIELD_NUMBER: _ClassVar[int]
    token_ids_u32: bytes
    sampling: _common_pb2.SamplingParameters
    speculation: _common_pb2.SpeculationParameters
    noise_key: int
    def __init__(self, token_ids_u32: _Optional[bytes] = ..., sampling: _Optional[_Union[_common_pb2.SamplingParameters, _Mapping]] = ..., speculation: _Optional[_Union[_common_pb2.SpeculationParameters, _Mapping]] = ..., noise_key: _Optional[int] = ...) -> None: ...

class DescribeDrafterRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class DescribeDrafterResponse(_message.Message):
    __slots__ = ("drafter_id", "kind", "model", "vocabulary_size", "tokenizer_hash", "price_per_hour", "max_sessions", "attached_sessions", "max_context", "protocol_version", "incarnation", "verifiers")
    DRAFTER_ID_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    VOCABULARY_SIZE_FIELD_NUMBER: _ClassVar[int]
    TOKENIZER_HASH_FIELD_NUMBER: _ClassVar[int]
    PRICE_PER_HOUR_FIELD_NUMBER: _ClassVar[int]
    MAX_SESSIONS_FIELD_NUMBER: _ClassVar[int]
    ATTACHED_SESSIONS_FIELD_NUMBER: _ClassVar[int]
    MAX_CONTEXT_FIELD_NUMBER: _ClassVar[int]
    PROTOCOL_VERSION_FIELD_NUMBER: _ClassVar[int]
    INCARNATION_FIELD_NUMBER: _ClassVar[int]
    VERIFIERS_FIELD_NUMBER: _ClassVar[int]
    drafter_id: str
    kind: str
    model: str
    vocabulary_size: int
    tokenizer_hash: str
    price_per_hour: float
    max_sessions: int
    attached_sessions: int
    max_context: int
    protocol_version: int
    incarnation: int
    verifiers: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, drafter_id: _Optional[str] = ..., kind: _Optional[str] = ..., model: _Optional[str] = ..., vocabulary_size: _Optional[int] = ..., tokenizer_hash: _Optional[str] = ..., price_per_hour: _Optional[float] = ..., max_sessions: _Optional[int] = ..., attached_sessions: _Optional[int] = ..., max_context: _Optional[int] = ..., protocol_version: _Optional[int] = ..., incarnation: _Optional[int] = ..., verifiers: _Optional[_Iterable[str]] = ...) -> None: ...
