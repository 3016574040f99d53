"""Resume tokens: where in an answer a client stands, in a form that only its session's gateways can write."""

from __future__ import annotations

import base64
import hashlib
import hmac
import struct
from binascii import Error as NotBase64
from collections.abc import Iterable
from dataclasses import dataclass

from paceline.errors import FieldError, PermissionDenied
from paceline.messages import OpenSession
from paceline.speculation.prefix import extend_hash

_VERSION, _SEAL_BYTES = 1, 8
_FORMAT = struct.Struct(">B16sIQ")
_SIZE = _FORMAT.size + _SEAL_BYTES


@dataclass(frozen=True)
class ResumeToken:
    """``length`` tokens of the answer are the client's already, and what they are is in ``prefix_hash``."""

    session_id: str
    length: int
    prefix_hash: int

    @classmethod
    def beginning(cls, opening: OpenSession) -> ResumeToken:
        """Of who has heard nothing yet."""
        return cls(opening.session_id, 0, answer_hash(opening.noise_key, ()))

    def sealed(self, secret: bytes) -> str:
        """As it is given away; ``secret`` is the session's."""
        body = _FORMAT.pack(_VERSION, bytes.fromhex(self.session_id), self.length, self.prefix_hash)
        return base64.urlsafe_b64encode(body + _seal(body, secret)).decode().rstrip("=")


@dataclass(frozen=True)
class Claim:
    """What somebody who shows a token says; not to be believed before its seal is checked."""

    token: ResumeToken
    seal: bytes

    @classmethod
    def parse(cls, text: str) -> Claim:
        """Raises ``FieldError``, which does not repeat the token."""
        try:
            data = base64.b64decode(text.encode("ascii") + b"=" * (-len(text) % 4), b"-_", validate=True)
        except (NotBase64, UnicodeEncodeError):
            data = b""
        if len(data) != _SIZE or data[0] != _VERSION:
            raise FieldError("resume_token", f"{len(text)} characters", "a token as a gateway has given it")
        _, session_id, length, prefix_hash = _FORMAT.unpack_from(data)
        return cls(ResumeToken(session_id.hex(), length, prefix_hash), data[_FORMAT.size :])

    def check(self, secret: bytes) -> ResumeToken:
        """The token, if it was sealed with the session's secret."""
        body = _FORMAT.pack(_VERSION, bytes.fromhex(self.token.session_id), self.token.length, self.token.prefix_hash)
        if not hmac.compare_digest(self.seal, _seal(body, secret)):
            raise PermissionDenied("resume_token: this gateway's fleet has not given it", "resume_token")
        return self.token


def answer_hash(noise_key: int, token_ids: Iterable[int]) -> int:
    """Of an answer's tokens; the noise key stands for seed and prompt. Extended by ``extend_hash``."""
    return extend_hash(noise_key, token_ids)


def _seal(body: bytes, secret: bytes) -> bytes:
    return hmac.new(secret, b"resume" + body, hashlib.sha256).digest()[:_SEAL_BYTES]
