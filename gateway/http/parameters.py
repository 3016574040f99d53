"""What completions and chats may both ask for, and how it reads as sampling and speculation parameters."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field

from gateway.http.fields import (
    MAX_CHOICES,
    Labels,
    Neutral,
    Prediction,
    ResponseFormat,
    Speculation,
    StreamOptions,
    StructuredOutputs,
)
from gateway.http.grammars import grammar_of
from paceline.speculation.fields import FieldError, require
from paceline.speculation.policy import Mode, Shape, SpeculationParameters
from paceline.speculation.sampling import SamplingParameters

_SAMPLING = (
    "temperature", "top_p", "min_p", "ignore_eos", "presence_penalty", "frequency_penalty", "repetition_penalty",
    "min_tokens",
)  # fmt: skip
_SPECULATION = ("drafters", "max_draft_nodes", "draft_depth", "draft_width", "cache_scope", "events")
_SEEDS = 1 << 64
MAX_DIGITS = 10
"""Of a token id."""


class Parameters(Labels, Neutral):
    """None: the default, as if the field were not there."""

    model: str = ""
    n: Annotated[int, Field(ge=1, le=MAX_CHOICES)] | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    seed: Annotated[int, Field(ge=-(_SEEDS >> 1), lt=_SEEDS)] | None = None
    priority: int | None = None
    max_tokens: int | None = None
    min_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    min_p: float | None = None
    stop: str | list[str] | None = None
    stop_token_ids: list[int] | None = None
    ignore_eos: bool | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    repetition_penalty: float | None = None
    logit_bias: dict[str, float] | None = None
    prediction: Prediction | None = None
    speculation: Speculation | None = None
    response_format: ResponseFormat | None = None
    structured_outputs: StructuredOutputs | None = None
    guided_json: dict[str, Any] | str | None = None
    guided_regex: str | None = None
    guided_choice: list[str] | None = None
    guided_grammar: str | None = None
    guided_decoding_backend: str | None = None

    @property
    def include_usage(self) -> bool:
        require(not self.stream_options or bool(self.stream), "stream_options", "given", "stream: true with it")
        return self.stream_options is not None and self.stream_options.include_usage

    @property
    def choices(self) -> int:
        return 1 if self.n is None else self.n

    @property
    def stops(self) -> tuple[str, ...]:
        return (self.stop,) if isinstance(self.stop, str) else tuple(self.stop or ())

    def sampling(self, max_tokens: int | None, logprobs: int | None) -> SamplingParameters:
        given = {name: value for name in _SAMPLING if (value := getattr(self, name)) is not None}
        return SamplingParameters(
            max_tokens=max_tokens,
            top_k=0 if self.top_k == -1 else self.top_k or 0,  # -1 is vLLM's word for off
            stop_token_ids=tuple(self.stop_token_ids or ()),
            logit_bias=_biases(self.logit_bias or {}),
            logprobs=logprobs,
            grammar=grammar_of(self),
            **given,
        )

    def speculating(self) -> SpeculationParameters:
        asked = self.speculation or Speculation()
        given = {name: value for name in _SPECULATION if (value := getattr(asked, name)) is not None}
        if asked.drafters is not None:
            given["drafters"] = tuple(asked.drafters)
        return SpeculationParameters(
            mode=Mode(asked.mode) if asked.mode else Mode.OVERLAPPED,
            shape=Shape(asked.shape) if asked.shape else Shape.TREE,
            prediction=self.prediction.text if self.prediction else "",
            **given,
        )


def _biases(asked: dict[str, float]) -> tuple[tuple[int, float], ...]:
    for key in asked:
        if not (key.isascii() and key.isdigit() and len(key) <= MAX_DIGITS):
            raise FieldError("logit_bias", key, "token ids as keys")
    return tuple(sorted((int(key), bias) for key, bias in asked.items()))
