from paceline.v1 import verifier_pb2 as _verifier_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class JournaledSession(_message.Message):
    __slots__ = ("opening", "caller", "seed", "stop", "prediction_u32", "request_digest", "traceparent")
    OPENING_FIELD_NUMBER: _ClassVar[int]
    CALLER_FIELD_NUMBER: _ClassVar[int]
    SEED_FIELD_NUMBER: _ClassVar[int]
    STOP_FIELD_NUMBER: _ClassVar[int]
    PREDICTION_U32_FIELD_NUMBER: _ClassVar[int]
    REQUEST_DIGEST_FIELD_NUMBER: _ClassVar[int]
    TRACEPARENT_FIELD_NUMBER: _ClassVar[int]
    opening: _verifier_pb2.OpenSession
    caller: str
    seed: int
    stop: _containers.RepeatedScalarFieldContainer[str]
    prediction_u32: bytes
    request_digest: bytes
    traceparent: str
    def __init__(self, opening: _Optional[_Union[_verifier_pb2.OpenSession, _Mapping]] = ..., caller: _Optional[str] = ..., seed: _Optional[int] = ..., stop: _Optional[_Iterable[str]] = ..., prediction_u32: _Optional[bytes] = ..., request_digest: _Optional[bytes] = ..., traceparent: _Optional[str] = ...) -> None: ...
