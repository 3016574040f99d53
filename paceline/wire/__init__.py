"""To and from the wire: the only package that touches generated code.

Each ``to_x`` makes a protobuf message of a plain value and each ``from_x`` the reverse, checking what comes from
outside: a bad value raises ``FieldError`` with field, value and expectation.
"""

from __future__ import annotations

from paceline.v1 import common_pb2 as common
from paceline.v1 import drafter_pb2 as drafter
from paceline.v1 import gateway_pb2 as gateway
from paceline.v1 import verifier_pb2 as verifier
from paceline.wire.attach import from_attach, from_attach_event, from_propose, to_attach, to_attach_event, to_propose
from paceline.wire.columns import pack_tokens, unpack_tokens
from paceline.wire.decode import (
    from_decode_command,
    from_decode_events,
    from_pulse,
    from_rejection,
    to_decode_command,
    to_decode_events,
    to_rejection,
)
from paceline.wire.describe import (
    from_drafter_description,
    from_model_info,
    from_tokenizer_files,
    from_verifier_description,
    to_drafter_description,
    to_model_info,
    to_tokenizer_files,
    to_verifier_description,
)
from paceline.wire.generate import from_chunk, from_generate, from_worker, to_chunk, to_generate, to_worker
from paceline.wire.journal import (
    from_journaled,
    from_journaled_event,
    request_digest,
    to_journaled,
    to_journaled_event,
)
from paceline.wire.parameters import from_sampling, from_speculation, to_sampling, to_speculation
from paceline.wire.services import (
    DrafterBase,
    GatewayBase,
    VerifierBase,
    add_drafter,
    add_gateway,
    add_verifier,
    drafter_stub,
    gateway_stub,
    size,
    verifier_stub,
)
from paceline.wire.speculate import from_draft_update, from_verdicts, to_draft_update, to_verdicts
from paceline.wire.statistics import from_overlap, from_usage, to_overlap, to_usage

__all__ = [
    "DrafterBase",
    "GatewayBase",
    "VerifierBase",
    "add_drafter",
    "add_gateway",
    "add_verifier",
    "common",
    "drafter",
    "drafter_stub",
    "from_attach",
    "from_attach_event",
    "from_chunk",
    "from_decode_command",
    "from_decode_events",
    "from_draft_update",
    "from_drafter_description",
    "from_generate",
    "from_journaled",
    "from_journaled_event",
    "from_model_info",
    "from_overlap",
    "from_propose",
    "from_pulse",
    "from_rejection",
    "from_sampling",
    "from_speculation",
    "from_tokenizer_files",
    "from_usage",
    "from_verdicts",
    "from_verifier_description",
    "from_worker",
    "gateway",
    "gateway_stub",
    "pack_tokens",
    "request_digest",
    "size",
    "to_attach",
    "to_attach_event",
    "to_chunk",
    "to_decode_command",
    "to_decode_events",
    "to_draft_update",
    "to_drafter_description",
    "to_generate",
    "to_journaled",
    "to_journaled_event",
    "to_model_info",
    "to_overlap",
    "to_propose",
    "to_rejection",
    "to_sampling",
    "to_speculation",
    "to_tokenizer_files",
    "to_usage",
    "to_verdicts",
    "to_verifier_description",
    "to_worker",
    "unpack_tokens",
    "verifier",
    "verifier_stub",
]
