"""Single tokens as text and as bytes, for log-probabilities and attributions."""

from __future__ import annotations

import re

from gateway.text import UNFINISHED, TextCodec

_BYTE_TOKEN = re.compile(r"<0x([0-9A-F]{2})>")
_SPACE = "\u2581"


def _byte_characters() -> dict[str, int]:
    """GPT-2's alphabet: the printable character that stands for each byte in byte-level vocabularies."""
    printable = [*range(ord("!"), ord("~") + 1), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {chr(256 + index): byte for index, byte in enumerate(others)}


_BYTES = _byte_characters()


class Vocabulary:
    """Remembers what it has been asked for."""

    def __init__(self, codec: TextCodec) -> None:
        self._codec = codec
        self._known: dict[int, tuple[str, bytes]] = {}

    def text(self, token_id: int) -> str:
        """The token's own text; bytes that are no text by themselves as OpenAI writes them: ``bytes:\\xf0\\x9f``."""
        return self._entry(token_id)[0]

    def content(self, token_id: int) -> bytes:
        return self._entry(token_id)[1]

    def _entry(self, token_id: int) -> tuple[str, bytes]:
        if token_id not in self._known:
            content = self._spell(token_id)
            try:
                text = content.decode()
            except UnicodeDecodeError:
                text = "bytes:" + "".join(f"\\x{byte:02x}" for byte in content)
            self._known[token_id] = text, content
        return self._known[token_id]

    def _spell(self, token_id: int) -> bytes:
        tokenizer = self._codec.tokenizer
        token: str = tokenizer.id_to_token(token_id) or ""
        if match := _BYTE_TOKEN.fullmatch(token):
            return bytes([int(match[1], 16)])
        if _SPACE in token:
            return token.replace(_SPACE, " ").encode()
        text: str = tokenizer.decode([token_id], skip_special_tokens=False)
        if UNFINISHED in text and all(character in _BYTES for character in token):
            return bytes(_BYTES[character] for character in token)
        return text.encode()
