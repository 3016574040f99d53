from paceline.v1 import common_pb2 as _common_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class DecodeCommand(_message.Message):
    __slots__ = ("open", "abort", "authorize", "revoke", "change", "traceparent")
    OPEN_FIELD_NUMBER: _ClassVar[int]
    ABORT_FIELD_NUMBER: _ClassVar[int]
    AUTHORIZE_FIELD_NUMBER: _ClassVar[int]
    REVOKE_FIELD_NUMBER: _ClassVar[int]
    CHANGE_FIELD_NUMBER: _ClassVar[int]
    TRACEPARENT_FIELD_NUMBER: _ClassVar[int]
    open: OpenSession
    abort: AbortSession
    authorize: AuthorizeDrafter
    revoke: RevokeDrafter
    change: ChangeSession
    traceparent: str
    def __init__(self, open: _Optional[_Union[OpenSession, _Mapping]] = ..., abort: _Optional[_Union[AbortSession, _Mapping]] = ..., authorize: _Optional[_Union[AuthorizeDrafter, _Mapping]] = ..., revoke: _Optional[_Union[RevokeDrafter, _Mapping]] = ..., change: _Optional[_Union[ChangeSession, _Mapping]] = ..., traceparent: _Optional[str] = ...) -> None: ...

class OpenSession(_message.Message):
    __slots__ = ("session_id", "epoch", "token_ids_u32", "prompt_length", "sampling", "speculation", "noise_key", "session_secret", "priority", "model")
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    TOKEN_IDS_U32_FIELD_NUMBER: _ClassVar[int]
    PROMPT_LENGTH_FIELD_NUMBER: _ClassVar[int]
    SAMPLING_FIELD_NUMBER: _ClassVar[int]
    SPECULATION_FIELD_NUMBER: _ClassVar[int]
    NOISE_KEY_FIELD_NUMBER: _ClassVar[int]
    SESSION_SECRET_FIELD_NUMBER: _ClassVar[int]
    PRIORITY_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    session_id: str
    epoch: int
    token_ids_u32: bytes
    prompt_length: int
    sampling: _common_pb2.SamplingParameters
    speculation: _common_pb2.SpeculationParameters
    noise_key: int
    session_secret: bytes
    priority: int
    model: str
    def __init__(self, session_id: _Optional[str] = ..., epoch: _Optional[int] = ..., token_ids_u32: _Optional[bytes] = ..., prompt_length: _Optional[int] = ..., sampling: _Optional[_Union[_common_pb2.SamplingParameters, _Mapping]] = ..., speculation: _Optional[_Union[_common_pb2.SpeculationParameters, _Mapping]] = ..., noise_key: _Optional[int] = ..., session_secret: _Optional[bytes] = ..., priority: _Optional[int] = ..., model: _Optional[str] = ...) -> None: ...

class AbortSession(_message.Message):
    __slots__ = ("session_id", "epoch")
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    session_id: str
    epoch: int
    def __init__(self, session_id: _Optional[str] = ..., epoch: _Optional[int] = ...) -> None: ...

class AuthorizeDrafter(_message.Message):
    __slots__ = ("session_id", "drafter_id")
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    DRAFTER_ID_FIELD_NUMBER: _ClassVar[int]
    session_id: str
    drafter_id: str
    def __init__(self, session_id: _Optional[str] = ..., drafter_id: _Optional[str] = ...) -> None: ...

class RevokeDrafter(_message.Message):
    __slots__ = ("session_id", "drafter_id", "reason")
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    DRAFTER_ID_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    session_id: str
    drafter_id: str
    reason: str
    def __init__(self, session_id: _Optional[str] = ..., drafter_id: _Optional[str] = ..., reason: _Optional[str] = ...) -> None: ...

class ChangeSession(_message.Message):
    __slots__ = ("session_id", "mode", "max_draft_nodes", "priority")
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    MODE_FIELD_NUMBER: _ClassVar[int]
    MAX_DRAFT_NODES_FIELD_NUMBER: _ClassVar[int]
    PRIORITY_FIELD_NUMBER: _ClassVar[int]
    session_id: str
    mode: _common_pb2.Mode
    max_draft_nodes: int
    priority: int
    def __init__(self, session_id: _Optional[str] = ..., mode: _Optional[_Union[_common_pb2.Mode, str]] = ..., max_draft_nodes: _Optional[int] = ..., priority: _Optional[int] = ...) -> None: ...

class DecodeEvents(_message.Message):
    __slots__ = ("events", "step", "draining", "stalled")
    EVENTS_FIELD_NUMBER: _ClassVar[int]
    STEP_FIELD_NUMBER: _ClassVar[int]
    DRAINING_FIELD_NUMBER: _ClassVar[int]
    STALLED_FIELD_NUMBER: _ClassVar[int]
    events: _containers.RepeatedCompositeFieldContainer[SessionEvent]
    step: int
    draining: bool
    stalled: bool
    def __init__(self, events: _Optional[_Iterable[_Union[SessionEvent, _Mapping]]] = ..., step: _Optional[int] = ..., draining: _Optional[bool] = ..., stalled: _Optional[bool] = ...) -> None: ...

class SessionEvent(_message.Message):
    __slots__ = ("session_id", "epoch", "opened", "committed", "rejected", "finish_reason", "usage", "overlap", "detail", "events")
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    OPENED_FIELD_NUMBER: _ClassVar[int]
    COMMITTED_FIELD_NUMBER: _ClassVar[int]
    REJECTED_FIELD_NUMBER: _ClassVar[int]
    FINISH_REASON_FIELD_NUMBER: _ClassVar[int]
    USAGE_FIELD_NUMBER: _ClassVar[int]
    OVERLAP_FIELD_NUMBER: _ClassVar[int]
    DETAIL_FIELD_NUMBER: _ClassVar[int]
    EVENTS_FIELD_NUMBER: _ClassVar[int]
    session_id: str
    epoch: int
    opened: SessionOpened
    committed: CommittedTokens
    rejected: SessionRejected
    finish_reason: _common_pb2.FinishReason
    usage: _common_pb2.Usage
    overlap: _common_pb2.OverlapStatistics
    detail: str
    events: _containers.RepeatedCompositeFieldContainer[_common_pb2.DraftingEvent]
    def __init__(self, session_id: _Optional[str] = ..., epoch: _Optional[int] = ..., opened: _Optional[_Union[SessionOpened, _Mapping]] = ..., committed: _Optional[_Union[CommittedTokens, _Mapping]] = ..., rejected: _Optional[_Union[SessionRejected, _Mapping]] = ..., finish_reason: _Optional[_Union[_common_pb2.FinishReason, str]] = ..., usage: _Optional[_Union[_common_pb2.Usage, _Mapping]] = ..., overlap: _Optional[_Union[_common_pb2.OverlapStatistics, _Mapping]] = ..., detail: _Optional[str] = ..., events: _Optional[_Iterable[_Union[_common_pb2.DraftingEvent, _Mapping]]] = ...) -> None: ...

class SessionOpened(_message.Message):
    __slots__ = ("cached_tokens",)
    CACHED_TOKENS_FIELD_NUMBER: _ClassVar[int]
    cached_tokens: int
    def __init__(self, cached_tokens: _Optional[int] = ...) -> None: ...

class CommittedTokens(_message.Message):
    __slots__ = ("position", "token_ids_u32", "prefix_hash", "logprobs", "sources", "step_tokens", "step_nodes")
    POSITION_FIELD_NUMBER: _ClassVar[int]
    TOKEN_IDS_U32_FIELD_NUMBER: _ClassVar[int]
    PREFIX_HASH_FIELD_NUMBER: _ClassVar[int]
    LOGPROBS_FIELD_NUMBER: _ClassVar[int]
    SOURCES_FIELD_NUMBER: _ClassVar[int]
    STEP_TOKENS_FIELD_NUMBER: _ClassVar[int]
    STEP_NODES_FIELD_NUMBER: _ClassVar[int]
    position: int
    token_ids_u32: bytes
    prefix_hash: int
    logprobs: _containers.RepeatedCompositeFieldContainer[_common_pb2.TokenLogprobs]
    sources: _common_pb2.TokenSources
    step_tokens: _containers.RepeatedScalarFieldContainer[int]
    step_nodes: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, position: _Optional[int] = ..., token_ids_u32: _Optional[bytes] = ..., prefix_hash: _Optional[int] = ..., logprobs: _Optional[_Iterable[_Union[_common_pb2.TokenLogprobs, _Mapping]]] = ..., sources: _Optional[_Union[_common_pb2.TokenSources, _Mapping]] = ..., step_tokens: _Optional[_Iterable[int]] = ..., step_nodes: _Optional[_Iterable[int]] = ...) -> None: ...

class SessionRejected(_message.Message):
    __slots__ = ("session_id", "code", "detail", "epoch")
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    CODE_FIELD_NUMBER: _ClassVar[int]
    DETAIL_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    session_id: str
    code: int
    detail: str
    epoch: int
    def __init__(self, session_id: _Optional[str] = ..., code: _Optional[int] = ..., detail: _Optional[str] = ..., epoch: _Optional[int] = ...) -> None: ...

class DraftUpdate(_message.Message):
    __slots__ = ("joins", "nodes", "rounds", "leaves")
    JOINS_FIELD_NUMBER: _ClassVar[int]
    NODES_FIELD_NUMBER: _ClassVar[int]
    ROUNDS_FIELD_NUMBER: _ClassVar[int]
    LEAVES_FIELD_NUMBER: _ClassVar[int]
    joins: _containers.RepeatedCompositeFieldContainer[Join]
    nodes: _containers.RepeatedCompositeFieldContainer[DraftNodes]
    rounds: _containers.RepeatedCompositeFieldContainer[RoundComplete]
    leaves: _containers.RepeatedCompositeFieldContainer[Leave]
    def __init__(self, joins: _Optional[_Iterable[_Union[Join, _Mapping]]] = ..., nodes: _Optional[_Iterable[_Union[DraftNodes, _Mapping]]] = ..., rounds: _Optional[_Iterable[_Union[RoundComplete, _Mapping]]] = ..., leaves: _Optional[_Iterable[_Union[Leave, _Mapping]]] = ...) -> None: ...

class Join(_message.Message):
    __slots__ = ("session_id", "epoch", "drafter_id", "incarnation", "key", "have_length", "prefix_hash", "wants_candidates")
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    DRAFTER_ID_FIELD_NUMBER: _ClassVar[int]
    INCARNATION_FIELD_NUMBER: _ClassVar[int]
    KEY_FIELD_NUMBER: _ClassVar[int]
    HAVE_LENGTH_FIELD_NUMBER: _ClassVar[int]
    PREFIX_HASH_FIELD_NUMBER: _ClassVar[int]
    WANTS_CANDIDATES_FIELD_NUMBER: _ClassVar[int]
    session_id: str
    epoch: int
    drafter_id: str
    incarnation: int
    key: bytes
    have_length: int
    prefix_hash: int
    wants_candidates: bool
    def __init__(self, session_id: _Optional[str] = ..., epoch: _Optional[int] = ..., drafter_id: _Optional[str] = ..., incarnation: _Optional[int] = ..., key: _Optional[bytes] = ..., have_length: _Optional[int] = ..., prefix_hash: _Optional[int] = ..., wants_candidates: _Optional[bool] = ...) -> None: ...

class Leave(_message.Message):
    __slots__ = ("session_id",)
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    session_id: str
    def __init__(self, session_id: _Optional[str] = ...) -> None: ...

class DraftNodes(_message.Message):
    __slots__ = ("session_id", "epoch", "first_node_id", "root_position", "token_ids_u32", "parent_ids_u64", "log_scores_f32", "idle_seconds", "busy_seconds", "growth")
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    FIRST_NODE_ID_FIELD_NUMBER: _ClassVar[int]
    ROOT_POSITION_FIELD_NUMBER: _ClassVar[int]
    TOKEN_IDS_U32_FIELD_NUMBER: _ClassVar[int]
    PARENT_IDS_U64_FIELD_NUMBER: _ClassVar[int]
    LOG_SCORES_F32_FIELD_NUMBER: _ClassVar[int]
    IDLE_SECONDS_FIELD_NUMBER: _ClassVar[int]
    BUSY_SECONDS_FIELD_NUMBER: _ClassVar[int]
    GROWTH_FIELD_NUMBER: _ClassVar[int]
    session_id: str
    epoch: int
    first_node_id: int
    root_position: int
    token_ids_u32: bytes
    parent_ids_u64: bytes
    log_scores_f32: bytes
    idle_seconds: float
    busy_seconds: float
    growth: Growth
    def __init__(self, session_id: _Optional[str] = ..., epoch: _Optional[int] = ..., first_node_id: _Optional[int] = ..., root_position: _Optional[int] = ..., token_ids_u32: _Optional[bytes] = ..., parent_ids_u64: _Optional[bytes] = ..., log_scores_f32: _Optional[bytes] = ..., idle_seconds: _Optional[float] = ..., busy_seconds: _Optional[float] = ..., growth: _Optional[_Union[Growth, _Mapping]] = ...) -> None: ...

class Growth(_message.Message):
    __slots__ = ("started", "sent", "span_id")
    STARTED_FIELD_NUMBER: _ClassVar[int]
    SENT_FIELD_NUMBER: _ClassVar[int]
    SPAN_ID_FIELD_NUMBER: _ClassVar[int]
    started: float
    sent: float
    span_id: int
    def __init__(self, started: _Optional[float] = ..., sent: _Optional[float] = ..., span_id: _Optional[int] = ...) -> None: ...

class RoundComplete(_message.Message):
    __slots__ = ("session_id", "epoch", "root_position")
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    ROOT_POSITION_FIELD_NUMBER: _ClassVar[int]
    session_id: str
    epoch: int
    root_position: int
    def __init__(self, session_id: _Optional[str] = ..., epoch: _Optional[int] = ..., root_position: _Optional[int] = ...) -> None: ...

class Verdicts(_message.Message):
    __slots__ = ("joined", "verdicts", "rejected", "step")
    JOINED_FIELD_NUMBER: _ClassVar[int]
    VERDICTS_FIELD_NUMBER: _ClassVar[int]
    REJECTED_FIELD_NUMBER: _ClassVar[int]
    STEP_FIELD_NUMBER: _ClassVar[int]
    joined: _containers.RepeatedCompositeFieldContainer[Joined]
    verdicts: _containers.RepeatedCompositeFieldContainer[Verdict]
    rejected: _containers.RepeatedCompositeFieldContainer[SessionRejected]
    step: int
    def __init__(self, joined: _Optional[_Iterable[_Union[Joined, _Mapping]]] = ..., verdicts: _Optional[_Iterable[_Union[Verdict, _Mapping]]] = ..., rejected: _Optional[_Iterable[_Union[SessionRejected, _Mapping]]] = ..., step: _Optional[int] = ...) -> None: ...

class Joined(_message.Message):
    __slots__ = ("session_id", "epoch", "position", "token_ids_u32", "node_limit")
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    POSITION_FIELD_NUMBER: _ClassVar[int]
    TOKEN_IDS_U32_FIELD_NUMBER: _ClassVar[int]
    NODE_LIMIT_FIELD_NUMBER: _ClassVar[int]
    session_id: str
    epoch: int
    position: int
    token_ids_u32: bytes
    node_limit: int
    def __init__(self, session_id: _Optional[str] = ..., epoch: _Optional[int] = ..., position: _Optional[int] = ..., token_ids_u32: _Optional[bytes] = ..., node_limit: _Optional[int] = ...) -> None: ...

class Verdict(_message.Message):
    __slots__ = ("session_id", "epoch", "position", "token_ids_u32", "prefix_hash", "ended", "node_limit", "candidate_token_ids_u32", "candidates_per_node", "mode", "beside_token_ids_u32", "beside_candidate_token_ids_u32")
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    POSITION_FIELD_NUMBER: _ClassVar[int]
    TOKEN_IDS_U32_FIELD_NUMBER: _ClassVar[int]
    PREFIX_HASH_FIELD_NUMBER: _ClassVar[int]
    ENDED_FIELD_NUMBER: _ClassVar[int]
    NODE_LIMIT_FIELD_NUMBER: _ClassVar[int]
    CANDIDATE_TOKEN_IDS_U32_FIELD_NUMBER: _ClassVar[int]
    CANDIDATES_PER_NODE_FIELD_NUMBER: _ClassVar[int]
    MODE_FIELD_NUMBER: _ClassVar[int]
    BESIDE_TOKEN_IDS_U32_FIELD_NUMBER: _ClassVar[int]
    BESIDE_CANDIDATE_TOKEN_IDS_U32_FIELD_NUMBER: _ClassVar[int]
    session_id: str
    epoch: int
    position: int
    token_ids_u32: bytes
    prefix_hash: int
    ended: bool
    node_limit: int
    candidate_token_ids_u32: bytes
    candidates_per_node: int
    mode: _common_pb2.Mode
    beside_token_ids_u32: bytes
    beside_candidate_token_ids_u32: bytes
    def __init__(self, session_id: _Optional[str] = ..., epoch: _Optional[int] = ..., position: _Optional[int] = ..., token_ids_u32: _Optional[bytes] = ..., prefix_hash: _Optional[int] = ..., ended: _Optional[bool] = ..., node_limit: _Optional[int] = ..., candidate_token_ids_u32: _Optional[bytes] = ..., candidates_per_node: _Optional[int] = ..., mode: _Optional[_Union[_common_pb2.Mode, str]] = ..., beside_token_ids_u32: _Optional[bytes] = ..., beside_candidate_token_ids_u32: _Optional[bytes] = ...) -> None: ...

class DescribeVerifierRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class DescribeVerifierResponse(_message.Message):
    __slots__ = ("model", "fingerprint", "limits", "load", "features", "protocol_version", "verifier_id", "incarnation")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    FINGERPRINT_FIELD_NUMBER: _ClassVar[int]
    LIMITS_FIELD_NUMBER: _ClassVar[int]
    LOAD_FIELD_NUMBER: _ClassVar[int]
    FEATURES_FIELD_NUMBER: _ClassVar[int]
    PROTOCOL_VERSION_FIELD_NUMBER: _ClassVar[int]
    VERIFIER_ID_FIELD_NUMBER: _ClassVar[int]
    INCARNATION_FIELD_NUMBER: _ClassVar[int]
    model: _common_pb2.ModelInfo
    fingerprint: _common_pb2.Fingerprint
    limits: VerifierLimits
    load: VerifierLoad
    features: _containers.RepeatedScalarFieldContainer[str]
    protocol_version: int
    verifier_id: str
    incarnation: int
    def __init__(self, model: _Optional[_Union[_common_pb2.ModelInfo, _Mapping]] = ..., fingerprint: _Optional[_Union[_common_pb2.Fingerprint, _Mapping]] = ..., limits: _Optional[_Union[VerifierLimits, _Mapping]] = ..., load: _Optional[_Union[VerifierLoad, _Mapping]] = ..., features: _Optional[_Iterable[str]] = ..., protocol_version: _Optional[int] = ..., verifier_id: _Optional[str] = ..., incarnation: _Optional[int] = ...) -> None: ...

class VerifierLimits(_message.Message):
    __slots__ = ("max_sessions", "max_nodes_per_session_message", "max_nodes_per_message", "max_live_nodes", "max_depth")
    MAX_SESSIONS_FIELD_NUMBER: _ClassVar[int]
    MAX_NODES_PER_SESSION_MESSAGE_FIELD_NUMBER: _ClassVar[int]
    MAX_NODES_PER_MESSAGE_FIELD_NUMBER: _ClassVar[int]
    MAX_LIVE_NODES_FIELD_NUMBER: _ClassVar[int]
    MAX_DEPTH_FIELD_NUMBER: _ClassVar[int]
    max_sessions: int
    max_nodes_per_session_message: int
    max_nodes_per_message: int
    max_live_nodes: int
    max_depth: int
    def __init__(self, max_sessions: _Optional[int] = ..., max_nodes_per_session_message: _Optional[int] = ..., max_nodes_per_message: _Optional[int] = ..., max_live_nodes: _Optional[int] = ..., max_depth: _Optional[int] = ...) -> None: ...

class VerifierLoad(_message.Message):
    __slots__ = ("running_sessions", "waiting_sessions", "free_blocks", "total_blocks", "step_seconds")
    RUNNING_SESSIONS_FIELD_NUMBER: _ClassVar[int]
    WAITING_SESSIONS_FIELD_NUMBER: _ClassVar[int]
    FREE_BLOCKS_FIELD_NUMBER: _ClassVar[int]
    TOTAL_BLOCKS_FIELD_NUMBER: _ClassVar[int]
    STEP_SECONDS_FIELD_NUMBER: _ClassVar[int]
    running_sessions: int
    waiting_sessions: int
    free_blocks: int
    total_blocks: int
    step_seconds: float
    def __init__(self, running_sessions: _Optional[int] = ..., waiting_sessions: _Optional[int] = ..., free_blocks: _Optional[int] = ..., total_blocks: _Optional[int] = ..., step_seconds: _Optional[float] = ...) -> None: ...

class GetTokenizerRequest(_message.Message):
    __slots__ = ("have_hash",)
    HAVE_HASH_FIELD_NUMBER: _ClassVar[int]
    have_hash: str
    def __init__(self, have_hash: _Optional[str] = ...) -> None: ...

class GetTokenizerResponse(_message.Message):
    __slots__ = ("tokenizer_hash", "tokenizer_json", "chat_template", "special_tokens")
    class SpecialTokensEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    TOKENIZER_HASH_FIELD_NUMBER: _ClassVar[int]
    TOKENIZER_JSON_FIELD_NUMBER: _ClassVar[int]
    CHAT_TEMPLATE_FIELD_NUMBER: _ClassVar[int]
    SPECIAL_TOKENS_FIELD_NUMBER: _ClassVar[int]
    tokenizer_hash: str
    tokenizer_json: bytes
    chat_template: str
    special_tokens: _containers.ScalarMap[str, str]
    def __init__(self, tokenizer_hash: _Optional[str] = ..., tokenizer_json: _Optional[bytes] = ..., chat_template: _Optional[str] = ..., special_tokens: _Optional[_Mapping[str, str]] = ...) -> None: ...
