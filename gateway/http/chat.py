"""``/v1/chat/completions``: the next message of a conversation, as the model's own template writes it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from fastapi import APIRouter, Request, Response

from gateway.http.answer import Choice
from gateway.http.callers import caller_of
from gateway.http.face import Face
from gateway.http.fields import Nothing, Strict, TextPart
from gateway.http.jobs import make_job
from gateway.http.logprobs import chat_logprobs
from gateway.http.models import Model, unhurried
from gateway.http.parameters import Parameters
from gateway.http.respond import respond
from gateway.http.resuming import Retry, look_back
from paceline.messages import ChatMessage, Chunk
from paceline.speculation.fields import require


class Message(Strict):
    """Text only."""

    role: str
    content: str | list[TextPart]
    name: None = None
    refusal: None = None
    tool_calls: Nothing | None = None
    tool_call_id: None = None
    function_call: None = None
    audio: None = None

    @property
    def text(self) -> str:
        return self.content if isinstance(self.content, str) else "\n".join(part.text for part in self.content)


class ChatNeutral(Strict):
    """What only chats may have, and this gateway does not do: accepted as long as it asks for nothing."""

    tools: Nothing | None = None
    tool_choice: Literal["none", "auto"] | None = None
    parallel_tool_calls: bool | None = None
    functions: Nothing | None = None
    function_call: Literal["none", "auto"] | None = None
    audio: None = None
    modalities: list[Literal["text"]] | None = None
    web_search_options: None = None
    reasoning_effort: None = None
    verbosity: None = None
    echo: Literal[False] | None = None
    add_generation_prompt: Literal[True] | None = None
    continue_final_message: Literal[False] | None = None
    add_special_tokens: Literal[False] | None = None
    chat_template: None = None
    documents: Nothing | None = None


class Conversation(Strict):
    messages: list[Message]
    chat_template_kwargs: dict[str, Any] | None = None

    async def encode(self, model: Model) -> tuple[int, ...]:
        """Token ids of the conversation, ready for the next message."""
        messages = [ChatMessage(message.role, message.text) for message in self.messages]
        require(bool(messages), "messages", [], "at least one message")
        size = sum(len(message.content) for message in messages)
        model.check_length("messages", size)
        options = self.chat_template_kwargs or {}
        return tuple(await unhurried(size, lambda: model.codec.encode_chat(messages, options)))


class ChatRequest(Conversation, ChatNeutral, Parameters):
    max_completion_tokens: int | None = None
    logprobs: bool | None = None
    top_logprobs: int | None = None

    @property
    def most_tokens(self) -> int | None:
        old, new = self.max_tokens, self.max_completion_tokens
        require(old is None or new in (None, old), "max_tokens", old, "the same as max_completion_tokens, or nothing")
        return old if new is None else new

    @property
    def runners_up(self) -> int | None:
        require(
            bool(self.logprobs) or not self.top_logprobs, "top_logprobs", self.top_logprobs, "logprobs: true with it"
        )
        return self.top_logprobs or 0 if self.logprobs else None


@dataclass(frozen=True)
class ChatFormat:
    model: Model
    prefix: str = "chatcmpl"
    whole_object: str = "chat.completion"
    chunk_object: str = "chat.completion.chunk"

    def whole(self, choice: Choice) -> dict[str, Any]:
        message = {"role": "assistant", "content": "".join(choice.text), "refusal": None}
        logprobs = chat_logprobs(self.model.vocabulary, choice.token_ids, choice.logprobs)
        return {"message": message, "logprobs": logprobs}

    def part(self, choice: Choice, chunk: Chunk) -> dict[str, Any]:
        delta = {"content": chunk.text} if choice.shown else {"role": "assistant", "content": chunk.text}
        return {"delta": delta, "logprobs": chat_logprobs(self.model.vocabulary, chunk.token_ids, chunk.logprobs)}


def router(face: Face) -> APIRouter:
    routes = APIRouter()

    @routes.post("/v1/chat/completions")
    async def chat(asked: ChatRequest, request: Request, retry: Retry) -> Response:
        model = face.models.find(asked.model)
        ids, most = await asked.encode(model), asked.most_tokens
        before = await look_back(face.gateway, retry, caller_of(request))
        job = await make_job(asked, model, [ids], ChatFormat(model), before, max_tokens=most, logprobs=asked.runners_up)
        return await respond(face, job, request)

    return routes
