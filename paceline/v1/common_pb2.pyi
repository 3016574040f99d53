from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Mode(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    MODE_UNSPECIFIED: _ClassVar[Mode]
    MODE_OVERLAPPED: _ClassVar[Mode]
    MODE_LOCKSTEP: _ClassVar[Mode]
    MODE_OFF: _ClassVar[Mode]

class Shape(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    SHAPE_UNSPECIFIED: _ClassVar[Shape]
    SHAPE_TREE: _ClassVar[Shape]
    SHAPE_CHAIN: _ClassVar[Shape]

class FinishReason(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    FINISH_REASON_UNSPECIFIED: _ClassVar[FinishReason]
    FINISH_REASON_STOP: _ClassVar[FinishReason]
    FINISH_REASON_LENGTH: _ClassVar[FinishReason]
    FINISH_REASON_ABORT: _ClassVar[FinishReason]
    FINISH_REASON_ERROR: _ClassVar[FinishReason]
MODE_UNSPECIFIED: Mode
MODE_OVERLAPPED: Mode
MODE_LOCKSTEP: Mode
MODE_OFF: Mode
SHAPE_UNSPECIFIED: Shape
SHAPE_TREE: Shape
SHAPE_CHAIN: Shape
FINISH_REASON_UNSPECIFIED: FinishReason
FINISH_REASON_STOP: FinishReason
FINISH_REASON_LENGTH: FinishReason
FINISH_REASON_ABORT: FinishReason
FINISH_REASON_ERROR: FinishReason

class SamplingParameters(_message.Message):
    __slots__ = ("max_tokens", "temperature", "top_p", "top_k", "min_p", "presence_penalty", "frequency_penalty", "repetition_penalty", "logit_bias", "min_tokens", "ignore_eos", "stop_token_ids", "logprobs", "grammar")
    class LogitBiasEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: int
        value: float
        def __init__(self, key: _Optional[int] = ..., value: _Optional[float] = ...) -> None: ...
    MAX_TOKENS_FIELD_NUMBER: _ClassVar[int]
    TEMPERATURE_FIELD_NUMBER: _ClassVar[int]
    TOP_P_FIELD_NUMBER: _ClassVar[int]
    TOP_K_FIELD_NUMBER: _ClassVar[int]
    MIN_P_FIELD_NUMBER: _ClassVar[int]
    PRESENCE_PENALTY_FIELD_NUMBER: _ClassVar[int]
    FREQUENCY_PENALTY_FIELD_NUMBER: _ClassVar[int]
    REPETITION_PENALTY_FIELD_NUMBER: _ClassVar[int]
    LOGIT_BIAS_FIELD_NUMBER: _ClassVar[int]
    MIN_TOKENS_FIELD_NUMBER: _ClassVar[int]
    IGNORE_EOS_FIELD_NUMBER: _ClassVar[int]
    STOP_TOKEN_IDS_FIELD_NUMBER: _ClassVar[int]
    LOGPROBS_FIELD_NUMBER: _ClassVar[int]
    GRAMMAR_FIELD_NUMBER: _ClassVar[int]
    max_tokens: int
    temperature: float
    top_p: float
    top_k: int
    min_p: float
    presence_penalty: float
    frequency_penalty: float
    repetition_penalty: float
    logit_bias: _containers.ScalarMap[int, float]
    min_tokens: int
    ignore_eos: bool
    stop_token_ids: _containers.RepeatedScalarFieldContainer[int]
    logprobs: int
    grammar: Grammar
    def __init__(self, max_tokens: _Optional[int] = ..., temperature: _Optional[float] = ..., top_p: _Optional[float] = ..., top_k: _Optional[int] = ..., min_p: _Optional[float] = ..., presence_penalty: _Optional[float] = ..., frequency_penalty: _Optional[float] = ..., repetition_penalty: _Optional[float] = ..., logit_bias: _Optional[_Mapping[int, float]] = ..., min_tokens: _Optional[int] = ..., ignore_eos: _Optional[bool] = ..., stop_token_ids: _Optional[_Iterable[int]] = ..., logprobs: _Optional[int] = ..., grammar: _Optional[_Union[Grammar, _Mapping]] = ...) -> None: ...

class Grammar(_message.Message):
    __slots__ = ("json_schema", "regex", "ebnf", "choices", "backend")
    JSON_SCHEMA_FIELD_NUMBER: _ClassVar[int]
    REGEX_FIELD_NUMBER: _ClassVar[int]
    EBNF_FIELD_NUMBER: _ClassVar[int]
    CHOICES_FIELD_NUMBER: _ClassVar[int]
    BACKEND_FIELD_NUMBER: _ClassVar[int]
    json_schema: str
    regex: str
    ebnf: str
    choices: str
    backend: str
    def __init__(self, json_schema: _Optional[str] = ..., regex: _Optional[str] = ..., ebnf: _Optional[str] = ..., choices: _Optional[str] = ..., backend: _Optional[str] = ...) -> None: ...

class SpeculationParameters(_message.Message):
    __slots__ = ("mode", "shape", "max_draft_nodes", "draft_depth", "draft_width", "drafters", "cache_scope", "no_drafters", "prediction", "events")
    MODE_FIELD_NUMBER: _ClassVar[int]
    SHAPE_FIELD_NUMBER: _ClassVar[int]
    MAX_DRAFT_NODES_FIELD_NUMBER: _ClassVar[int]
    DRAFT_DEPTH_FIELD_NUMBER: _ClassVar[int]
    DRAFT_WIDTH_FIELD_NUMBER: _ClassVar[int]
    DRAFTERS_FIELD_NUMBER: _ClassVar[int]
    CACHE_SCOPE_FIELD_NUMBER: _ClassVar[int]
    NO_DRAFTERS_FIELD_NUMBER: _ClassVar[int]
    PREDICTION_FIELD_NUMBER: _ClassVar[int]
    EVENTS_FIELD_NUMBER: _ClassVar[int]
    mode: Mode
    shape: Shape
    max_draft_nodes: int
    draft_depth: int
    draft_width: int
    drafters: _containers.RepeatedScalarFieldContainer[str]
    cache_scope: str
    no_drafters: bool
    prediction: str
    events: bool
    def __init__(self, mode: _Optional[_Union[Mode, str]] = ..., shape: _Optional[_Union[Shape, str]] = ..., max_draft_nodes: _Optional[int] = ..., draft_depth: _Optional[int] = ..., draft_width: _Optional[int] = ..., drafters: _Optional[_Iterable[str]] = ..., cache_scope: _Optional[str] = ..., no_drafters: _Optional[bool] = ..., prediction: _Optional[str] = ..., events: _Optional[bool] = ...) -> None: ...

class Usage(_message.Message):
    __slots__ = ("prompt_tokens", "completion_tokens", "cached_tokens")
    PROMPT_TOKENS_FIELD_NUMBER: _ClassVar[int]
    COMPLETION_TOKENS_FIELD_NUMBER: _ClassVar[int]
    CACHED_TOKENS_FIELD_NUMBER: _ClassVar[int]
    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int
    def __init__(self, prompt_tokens: _Optional[int] = ..., completion_tokens: _Optional[int] = ..., cached_tokens: _Optional[int] = ...) -> None: ...

class DrafterStatistics(_message.Message):
    __slots__ = ("drafter_id", "proposed", "verified", "accepted", "uniquely_accepted", "stale", "rejected", "drafting", "steps", "busy_seconds")
    DRAFTER_ID_FIELD_NUMBER: _ClassVar[int]
    PROPOSED_FIELD_NUMBER: _ClassVar[int]
    VERIFIED_FIELD_NUMBER: _ClassVar[int]
    ACCEPTED_FIELD_NUMBER: _ClassVar[int]
    UNIQUELY_ACCEPTED_FIELD_NUMBER: _ClassVar[int]
    STALE_FIELD_NUMBER: _ClassVar[int]
    REJECTED_FIELD_NUMBER: _ClassVar[int]
    DRAFTING_FIELD_NUMBER: _ClassVar[int]
    STEPS_FIELD_NUMBER: _ClassVar[int]
    BUSY_SECONDS_FIELD_NUMBER: _ClassVar[int]
    drafter_id: str
    proposed: int
    verified: int
    accepted: int
    uniquely_accepted: int
    stale: int
    rejected: int
    drafting: bool
    steps: int
    busy_seconds: float
    def __init__(self, drafter_id: _Optional[str] = ..., proposed: _Optional[int] = ..., verified: _Optional[int] = ..., accepted: _Optional[int] = ..., uniquely_accepted: _Optional[int] = ..., stale: _Optional[int] = ..., rejected: _Optional[int] = ..., drafting: _Optional[bool] = ..., steps: _Optional[int] = ..., busy_seconds: _Optional[float] = ...) -> None: ...

class OverlapStatistics(_message.Message):
    __slots__ = ("steps", "verified_nodes", "accepted_nodes", "pre_verify_steps", "post_verify_nodes", "verifier_wait_seconds", "drafter_idle_seconds", "step_seconds", "drafters", "acceptance_histogram")
    STEPS_FIELD_NUMBER: _ClassVar[int]
    VERIFIED_NODES_FIELD_NUMBER: _ClassVar[int]
    ACCEPTED_NODES_FIELD_NUMBER: _ClassVar[int]
    PRE_VERIFY_STEPS_FIELD_NUMBER: _ClassVar[int]
    POST_VERIFY_NODES_FIELD_NUMBER: _ClassVar[int]
    VERIFIER_WAIT_SECONDS_FIELD_NUMBER: _ClassVar[int]
    DRAFTER_IDLE_SECONDS_FIELD_NUMBER: _ClassVar[int]
    STEP_SECONDS_FIELD_NUMBER: _ClassVar[int]
    DRAFTERS_FIELD_NUMBER: _ClassVar[int]
    ACCEPTANCE_HISTOGRAM_FIELD_NUMBER: _ClassVar[int]
    steps: int
    verified_nodes: int
    accepted_nodes: int
    pre_verify_steps: int
    post_verify_nodes: int
    verifier_wait_seconds: float
    drafter_idle_seconds: float
    step_seconds: float
    drafters: _containers.RepeatedCompositeFieldContainer[DrafterStatistics]
    acceptance_histogram: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, steps: _Optional[int] = ..., verified_nodes: _Optional[int] = ..., accepted_nodes: _Optional[int] = ..., pre_verify_steps: _Optional[int] = ..., post_verify_nodes: _Optional[int] = ..., verifier_wait_seconds: _Optional[float] = ..., drafter_idle_seconds: _Optional[float] = ..., step_seconds: _Optional[float] = ..., drafters: _Optional[_Iterable[_Union[DrafterStatistics, _Mapping]]] = ..., acceptance_histogram: _Optional[_Iterable[int]] = ...) -> None: ...

class Fingerprint(_message.Message):
    __slots__ = ("weights", "dtype", "engine", "device_kind", "tensor_parallel_size", "numerics", "grammar")
    WEIGHTS_FIELD_NUMBER: _ClassVar[int]
    DTYPE_FIELD_NUMBER: _ClassVar[int]
    ENGINE_FIELD_NUMBER: _ClassVar[int]
    DEVICE_KIND_FIELD_NUMBER: _ClassVar[int]
    TENSOR_PARALLEL_SIZE_FIELD_NUMBER: _ClassVar[int]
    NUMERICS_FIELD_NUMBER: _ClassVar[int]
    GRAMMAR_FIELD_NUMBER: _ClassVar[int]
    weights: str
    dtype: str
    engine: str
    device_kind: str
    tensor_parallel_size: int
    numerics: str
    grammar: str
    def __init__(self, weights: _Optional[str] = ..., dtype: _Optional[str] = ..., engine: _Optional[str] = ..., device_kind: _Optional[str] = ..., tensor_parallel_size: _Optional[int] = ..., numerics: _Optional[str] = ..., grammar: _Optional[str] = ...) -> None: ...

class ModelInfo(_message.Message):
    __slots__ = ("name", "vocabulary_size", "max_context", "tokenizer_hash", "stop_token_ids")
    NAME_FIELD_NUMBER: _ClassVar[int]
    VOCABULARY_SIZE_FIELD_NUMBER: _ClassVar[int]
    MAX_CONTEXT_FIELD_NUMBER: _ClassVar[int]
    TOKENIZER_HASH_FIELD_NUMBER: _ClassVar[int]
    STOP_TOKEN_IDS_FIELD_NUMBER: _ClassVar[int]
    name: str
    vocabulary_size: int
    max_context: int
    tokenizer_hash: str
    stop_token_ids: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, name: _Optional[str] = ..., vocabulary_size: _Optional[int] = ..., max_context: _Optional[int] = ..., tokenizer_hash: _Optional[str] = ..., stop_token_ids: _Optional[_Iterable[int]] = ...) -> None: ...

class TokenLogprobs(_message.Message):
    __slots__ = ("logprob", "top_token_ids_u32", "top_logprobs_f32")
    LOGPROB_FIELD_NUMBER: _ClassVar[int]
    TOP_TOKEN_IDS_U32_FIELD_NUMBER: _ClassVar[int]
    TOP_LOGPROBS_F32_FIELD_NUMBER: _ClassVar[int]
    logprob: float
    top_token_ids_u32: bytes
    top_logprobs_f32: bytes
    def __init__(self, logprob: _Optional[float] = ..., top_token_ids_u32: _Optional[bytes] = ..., top_logprobs_f32: _Optional[bytes] = ...) -> None: ...

class DraftingEvent(_message.Message):
    __slots__ = ("arrived", "decided", "placed", "phase")
    ARRIVED_FIELD_NUMBER: _ClassVar[int]
    DECIDED_FIELD_NUMBER: _ClassVar[int]
    PLACED_FIELD_NUMBER: _ClassVar[int]
    PHASE_FIELD_NUMBER: _ClassVar[int]
    arrived: NodesArrived
    decided: StepDecided
    placed: SessionPlaced
    phase: PhaseEnded
    def __init__(self, arrived: _Optional[_Union[NodesArrived, _Mapping]] = ..., decided: _Optional[_Union[StepDecided, _Mapping]] = ..., placed: _Optional[_Union[SessionPlaced, _Mapping]] = ..., phase: _Optional[_Union[PhaseEnded, _Mapping]] = ...) -> None: ...

class NodesArrived(_message.Message):
    __slots__ = ("at", "drafter_id", "node_ids_u32", "parent_ids_u32", "token_ids_u32", "positions_u32", "log_scores_f32", "idle_seconds", "busy_seconds", "grown_from", "sent_at")
    AT_FIELD_NUMBER: _ClassVar[int]
    DRAFTER_ID_FIELD_NUMBER: _ClassVar[int]
    NODE_IDS_U32_FIELD_NUMBER: _ClassVar[int]
    PARENT_IDS_U32_FIELD_NUMBER: _ClassVar[int]
    TOKEN_IDS_U32_FIELD_NUMBER: _ClassVar[int]
    POSITIONS_U32_FIELD_NUMBER: _ClassVar[int]
    LOG_SCORES_F32_FIELD_NUMBER: _ClassVar[int]
    IDLE_SECONDS_FIELD_NUMBER: _ClassVar[int]
    BUSY_SECONDS_FIELD_NUMBER: _ClassVar[int]
    GROWN_FROM_FIELD_NUMBER: _ClassVar[int]
    SENT_AT_FIELD_NUMBER: _ClassVar[int]
    at: float
    drafter_id: str
    node_ids_u32: bytes
    parent_ids_u32: bytes
    token_ids_u32: bytes
    positions_u32: bytes
    log_scores_f32: bytes
    idle_seconds: float
    busy_seconds: float
    grown_from: float
    sent_at: float
    def __init__(self, at: _Optional[float] = ..., drafter_id: _Optional[str] = ..., node_ids_u32: _Optional[bytes] = ..., parent_ids_u32: _Optional[bytes] = ..., token_ids_u32: _Optional[bytes] = ..., positions_u32: _Optional[bytes] = ..., log_scores_f32: _Optional[bytes] = ..., idle_seconds: _Optional[float] = ..., busy_seconds: _Optional[float] = ..., grown_from: _Optional[float] = ..., sent_at: _Optional[float] = ...) -> None: ...

class StepDecided(_message.Message):
    __slots__ = ("rooted_at", "launched_at", "decided_at", "verified_ids_u32", "accepted_ids_u32", "token_ids_u32", "position")
    ROOTED_AT_FIELD_NUMBER: _ClassVar[int]
    LAUNCHED_AT_FIELD_NUMBER: _ClassVar[int]
    DECIDED_AT_FIELD_NUMBER: _ClassVar[int]
    VERIFIED_IDS_U32_FIELD_NUMBER: _ClassVar[int]
    ACCEPTED_IDS_U32_FIELD_NUMBER: _ClassVar[int]
    TOKEN_IDS_U32_FIELD_NUMBER: _ClassVar[int]
    POSITION_FIELD_NUMBER: _ClassVar[int]
    rooted_at: float
    launched_at: float
    decided_at: float
    verified_ids_u32: bytes
    accepted_ids_u32: bytes
    token_ids_u32: bytes
    position: int
    def __init__(self, rooted_at: _Optional[float] = ..., launched_at: _Optional[float] = ..., decided_at: _Optional[float] = ..., verified_ids_u32: _Optional[bytes] = ..., accepted_ids_u32: _Optional[bytes] = ..., token_ids_u32: _Optional[bytes] = ..., position: _Optional[int] = ...) -> None: ...

class SessionPlaced(_message.Message):
    __slots__ = ("verifier_id", "epoch", "opened_unix_seconds")
    VERIFIER_ID_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    OPENED_UNIX_SECONDS_FIELD_NUMBER: _ClassVar[int]
    verifier_id: str
    epoch: int
    opened_unix_seconds: float
    def __init__(self, verifier_id: _Optional[str] = ..., epoch: _Optional[int] = ..., opened_unix_seconds: _Optional[float] = ...) -> None: ...

class PhaseEnded(_message.Message):
    __slots__ = ("name", "role", "started", "ended", "tokens")
    NAME_FIELD_NUMBER: _ClassVar[int]
    ROLE_FIELD_NUMBER: _ClassVar[int]
    STARTED_FIELD_NUMBER: _ClassVar[int]
    ENDED_FIELD_NUMBER: _ClassVar[int]
    TOKENS_FIELD_NUMBER: _ClassVar[int]
    name: str
    role: str
    started: float
    ended: float
    tokens: int
    def __init__(self, name: _Optional[str] = ..., role: _Optional[str] = ..., started: _Optional[float] = ..., ended: _Optional[float] = ..., tokens: _Optional[int] = ...) -> None: ...

class TokenSources(_message.Message):
    __slots__ = ("drafters", "sets_u64")
    DRAFTERS_FIELD_NUMBER: _ClassVar[int]
    SETS_U64_FIELD_NUMBER: _ClassVar[int]
    drafters: _containers.RepeatedScalarFieldContainer[str]
    sets_u64: bytes
    def __init__(self, drafters: _Optional[_Iterable[str]] = ..., sets_u64: _Optional[bytes] = ...) -> None: ...
