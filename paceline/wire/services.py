"""Stubs and servicer bases of the generated code, which is untyped, behind typed names."""

from __future__ import annotations

from typing import Any

import grpc
from google.protobuf.message import Message
from grpc import aio

from paceline.v1.drafter_pb2_grpc import DrafterServiceServicer as DrafterBase
from paceline.v1.drafter_pb2_grpc import DrafterServiceStub, add_DrafterServiceServicer_to_server
from paceline.v1.gateway_pb2_grpc import GatewayServiceServicer as GatewayBase
from paceline.v1.gateway_pb2_grpc import GatewayServiceStub, add_GatewayServiceServicer_to_server
from paceline.v1.verifier_pb2_grpc import VerifierServiceServicer as VerifierBase
from paceline.v1.verifier_pb2_grpc import VerifierServiceStub, add_VerifierServiceServicer_to_server

__all__ = ["DrafterBase", "GatewayBase", "VerifierBase"]


def drafter_stub(channel: aio.Channel) -> Any:
    return DrafterServiceStub(channel)  # type: ignore[no-untyped-call]


def gateway_stub(channel: aio.Channel | grpc.Channel) -> Any:
    return GatewayServiceStub(channel)  # type: ignore[no-untyped-call]


def verifier_stub(channel: aio.Channel) -> Any:
    return VerifierServiceStub(channel)  # type: ignore[no-untyped-call]


def add_drafter(servicer: DrafterBase, server: aio.Server) -> None:
    add_DrafterServiceServicer_to_server(servicer, server)  # type: ignore[no-untyped-call]


def add_gateway(servicer: GatewayBase, server: aio.Server) -> None:
    add_GatewayServiceServicer_to_server(servicer, server)  # type: ignore[no-untyped-call]


def add_verifier(servicer: VerifierBase, server: aio.Server) -> None:
    add_VerifierServiceServicer_to_server(servicer, server)  # type: ignore[no-untyped-call]


def size(message: Message) -> int:
    """Bytes of a message on the wire."""
    return int(message.ByteSize())
