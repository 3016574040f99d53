"""From a request to the session that is to be opened: tokens, checks, keys."""

from __future__ import annotations

import asyncio
import secrets
import uuid
from collections.abc import Callable, Collection
from dataclasses import replace
from typing import TypeVar

from gateway.callers import Caller
from gateway.text import TextCodec
from paceline.messages import Generate, ModelInfo, OpenSession
from paceline.speculation.fields import require
from paceline.speculation.noise import noise_key

TextT = TypeVar("TextT")

MAX_CHARACTERS_PER_TOKEN = 64
"""Longer texts than this times the context are refused before they are tokenized."""
LONG_CHARACTERS = 4096
"""Longer texts are tokenized beside the event loop: 4,096 characters take a millisecond, 100,000 take 45."""


async def open_session(
    request: Generate, caller: Caller, model: ModelInfo, codec: TextCodec, drafters: Collection[str], seed: int
) -> OpenSession:
    """Raises ``FieldError`` for what the model or the caller may not have; ``drafters`` are those there are."""
    prompt = await _encode(request, model, codec)
    require(bool(prompt), "prompt", request.text or "", "at least one token")
    require(len(prompt) < model.max_context, "prompt", f"{len(prompt)} tokens", f"fewer than {model.max_context}")
    largest = max(prompt)
    require(largest < model.vocabulary_size, "token_ids", largest, f"ids below {model.vocabulary_size}")
    for name in request.speculation.drafters or ():
        there = ", ".join(sorted(drafters)) or "none, there are no drafters"
        require(name in drafters, "drafters", name, f"one of {there}")
    scope = caller.cache_scope(request.speculation.cache_scope)
    return OpenSession(
        session_id=uuid.uuid4().hex,
        epoch=1,
        token_ids=tuple(prompt),
        prompt_length=len(prompt),
        sampling=request.sampling,
        speculation=replace(request.speculation, prediction="", cache_scope=scope),  # only drafters use a prediction
        noise_key=noise_key(seed, request.choice_index, prompt),
        session_secret=secrets.token_bytes(32),
        priority=caller.priority_for(request.priority),
        model=model.name,
    )


async def encode_prediction(text: str, model: ModelInfo, codec: TextCodec) -> tuple[int, ...]:
    """The client's guess at the text, in tokens."""
    _check_length("prediction", len(text), model)
    return tuple(await _beside(len(text), codec.encode, text)) if text else ()


async def _encode(request: Generate, model: ModelInfo, codec: TextCodec) -> list[int]:
    if request.token_ids is not None:
        return list(request.token_ids)
    if request.chat is not None:
        require(bool(request.chat), "messages", [], "at least one message")
        characters = sum(len(message.content) for message in request.chat)
        _check_length("messages", characters, model)
        return await _beside(characters, codec.encode_chat, request.chat)
    text = request.text or ""
    _check_length("prompt", len(text), model)
    return await _beside(len(text), codec.encode, text)


def _check_length(field: str, characters: int, model: ModelInfo) -> None:
    most = MAX_CHARACTERS_PER_TOKEN * model.max_context
    require(characters <= most, field, f"{characters} characters", f"at most {most}")


async def _beside(characters: int, encode: Callable[[TextT], list[int]], text: TextT) -> list[int]:
    """Tokenizes, a long text in a thread: nobody else's stream shall wait for it."""
    return await asyncio.to_thread(encode, text) if characters > LONG_CHARACTERS else encode(text)
