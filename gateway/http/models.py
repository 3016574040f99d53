"""The models that are served, with what is needed to speak their text."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from gateway.http.vocabulary import Vocabulary
from gateway.opening import LONG_CHARACTERS, MAX_CHARACTERS_PER_TOKEN
from gateway.service import Gateway
from gateway.text import TextCodec
from paceline.errors import NotFound, Unavailable
from paceline.messages import ModelInfo
from paceline.speculation.fields import require

ResultT = TypeVar("ResultT")


@dataclass(frozen=True)
class Model:
    """A model that a verifier has described."""

    info: ModelInfo
    codec: TextCodec
    vocabulary: Vocabulary
    system_fingerprint: str

    def check_length(self, field: str, characters: int) -> None:
        most = MAX_CHARACTERS_PER_TOKEN * self.info.max_context
        require(characters <= most, field, f"{characters} characters", f"at most {most}")

    async def encode(self, field: str, text: str) -> tuple[int, ...]:
        """Token ids of a prompt, with the special tokens that the tokenizer itself adds."""
        self.check_length(field, len(text))
        return tuple(await unhurried(len(text), lambda: self.codec.encode(text)))

    async def encode_plain(self, field: str, text: str) -> tuple[int, ...]:
        """Token ids of a text that is no prompt."""
        self.check_length(field, len(text))
        return tuple(
            await unhurried(len(text), lambda: self.codec.tokenizer.encode(text, add_special_tokens=False).ids)
        )


class Models:
    """Looks models up among the gateway's verifiers."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self._vocabularies: dict[str, Vocabulary] = {}

    def find(self, name: str) -> Model:
        """The model of this name, empty: the only one; raises ``NotFound``, or ``Unavailable`` while none is known."""
        names = list(dict.fromkeys(info.name for info in self._gateway.models()))
        require(bool(name) or len(names) < 2, "model", name, f"one of {', '.join(names)}")
        known: list[str] = []
        for worker in self._gateway.verifiers:
            if worker.description is None or worker.codec is None:
                continue
            info, codec = worker.description.model, worker.codec
            if name in ("", info.name):
                fingerprint = hashlib.sha256(repr(worker.description.fingerprint).encode()).hexdigest()
                return Model(info, codec, self._vocabulary(codec), f"fp_{fingerprint[:12]}")
            known.append(info.name)
        if not known:
            raise Unavailable("no verifier has been reached yet")
        raise NotFound(f"model = {name!r}: expected one of {', '.join(known)}")

    def _vocabulary(self, codec: TextCodec) -> Vocabulary:
        if codec.hash not in self._vocabularies:
            self._vocabularies[codec.hash] = Vocabulary(codec)
        return self._vocabularies[codec.hash]


async def unhurried(size: int, work: Callable[[], ResultT]) -> ResultT:
    """The result of ``work``, from a thread if ``size`` says that it takes long."""
    return await asyncio.to_thread(work) if size > LONG_CHARACTERS else work()
