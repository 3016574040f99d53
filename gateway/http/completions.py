"""``/v1/completions``: text on from text or tokens."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Request, Response
from pydantic import Field

from gateway.http.answer import Choice
from gateway.http.callers import caller_of
from gateway.http.face import Face
from gateway.http.jobs import make_job
from gateway.http.logprobs import text_logprobs
from gateway.http.models import Model
from gateway.http.parameters import Parameters
from gateway.http.respond import respond
from gateway.http.resuming import Retry, look_back
from paceline.messages import Chunk
from paceline.speculation.fields import require

MAX_TOKENS = 16
"""Unless asked otherwise, as OpenAI's and vLLM's."""
MAX_TEXTS = 128
TokenId = Annotated[int, Field(ge=0, lt=1 << 32)]


class CompletionRequest(Parameters):
    prompt: str | list[TokenId] | list[str] | list[list[TokenId]]
    echo: bool | None = None
    logprobs: int | None = None
    suffix: Literal[""] | None = None
    add_special_tokens: Literal[True] | None = None

    def prompts(self) -> list[str | tuple[int, ...]]:
        """Each of them, be they given as one or as several."""
        if isinstance(self.prompt, str):
            return [self.prompt]
        require(bool(self.prompt), "prompt", self.prompt, "text, token ids, or a list of either")
        ids = tuple(part for part in self.prompt if isinstance(part, int))
        return [ids] if ids else [part if isinstance(part, str) else tuple(part) for part in self._several()]

    def _several(self) -> list[str | list[int]]:
        return [part for part in self.prompt if not isinstance(part, int)]


@dataclass(frozen=True)
class TextFormat:
    """``echoes``: what each choice's text begins with."""

    model: Model
    echoes: tuple[str, ...]
    prefix: str = "cmpl"
    whole_object: str = "text_completion"
    chunk_object: str = "text_completion"

    def whole(self, choice: Choice) -> dict[str, Any]:
        logprobs = text_logprobs(self.model.vocabulary, choice.token_ids, choice.logprobs, choice.piece_lengths, 0)
        return {"text": self.echoes[choice.index] + "".join(choice.text), "logprobs": logprobs}

    def part(self, choice: Choice, chunk: Chunk) -> dict[str, Any]:
        vocabulary, offset = self.model.vocabulary, choice.length
        logprobs = text_logprobs(vocabulary, chunk.token_ids, chunk.logprobs, chunk.piece_lengths, offset)
        text = chunk.text if choice.shown else self.echoes[choice.index] + chunk.text
        return {"text": text, "logprobs": logprobs}


def router(face: Face) -> APIRouter:
    routes = APIRouter()

    @routes.post("/v1/completions")
    async def completions(asked: CompletionRequest, request: Request, retry: Retry) -> Response:
        model, prompts = face.models.find(asked.model), asked.prompts()
        texts = len(prompts) * asked.choices
        require(texts <= MAX_TEXTS, "prompt", f"{texts} texts", f"at most {MAX_TEXTS} of all prompts and choices")
        told = asked.echo and asked.logprobs is not None
        require(not told, "logprobs", asked.logprobs, "nothing beside echo: prompts have none")
        ids = [await model.encode("prompt", prompt) if isinstance(prompt, str) else prompt for prompt in prompts]
        echoes = [_echo(model, prompt) if asked.echo else "" for prompt in prompts]
        format_ = TextFormat(model, tuple(echo for echo in echoes for _ in range(asked.choices)))
        most = MAX_TOKENS if asked.max_tokens is None else asked.max_tokens
        before = await look_back(face.gateway, retry, caller_of(request))
        job = await make_job(asked, model, ids, format_, before, max_tokens=most, logprobs=asked.logprobs)
        return await respond(face, job, request)

    return routes


def _echo(model: Model, prompt: str | tuple[int, ...]) -> str:
    return prompt if isinstance(prompt, str) else model.codec.decode(prompt)
