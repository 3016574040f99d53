"""``/tokenize`` and ``/detokenize``, in vLLM's shapes."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Response
from pydantic import Field

from gateway.http.chat import Conversation, Message
from gateway.http.encoding import json_response
from gateway.http.face import Face
from gateway.http.fields import Strict
from gateway.http.models import unhurried
from paceline.speculation.fields import require


class TokenizeRequest(Strict):
    """Exactly one of ``prompt`` and ``messages``."""

    model: str = ""
    prompt: str | None = None
    messages: list[Message] | None = None
    chat_template_kwargs: dict[str, Any] | None = None
    add_special_tokens: bool = True
    add_generation_prompt: Literal[True] = True
    return_token_strs: bool = False


class DetokenizeRequest(Strict):
    model: str = ""
    tokens: list[Annotated[int, Field(ge=0, lt=1 << 32)]]


def router(face: Face) -> APIRouter:
    routes = APIRouter()

    @routes.post("/tokenize")
    async def tokenize(asked: TokenizeRequest) -> Response:
        model = face.models.find(asked.model)
        require((asked.prompt is None) != (asked.messages is None), "prompt", asked.prompt, "either this or messages")
        if asked.prompt is None:
            conversation = Conversation(messages=asked.messages or [], chat_template_kwargs=asked.chat_template_kwargs)
            ids = await conversation.encode(model)
        else:
            encode = model.encode if asked.add_special_tokens else model.encode_plain
            ids = await encode("prompt", asked.prompt)
        texts = [model.vocabulary.text(token_id) for token_id in ids] if asked.return_token_strs else None
        size = {"count": len(ids), "max_model_len": model.info.max_context}
        return json_response({**size, "tokens": ids, "token_strs": texts})

    @routes.post("/detokenize")
    async def detokenize(asked: DetokenizeRequest) -> Response:
        model = face.models.find(asked.model)
        largest = max(asked.tokens, default=0)
        require(largest < model.info.vocabulary_size, "tokens", largest, f"ids below {model.info.vocabulary_size}")
        text = await unhurried(len(asked.tokens), lambda: model.codec.decode(asked.tokens))
        return json_response({"prompt": text})

    return routes
