"""The parts of a request's body that completions and chats have in common, as they come over the wire."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from annotated_types import MaxLen
from pydantic import BaseModel, ConfigDict, Field, field_validator

Nothing = Annotated[list[Any], MaxLen(0)]
MAX_CHOICES = 16
MAX_NESTING = 128
"""Levels within a field; what writes them out again recurses."""


def _check_unicode(value: Any, levels: int = MAX_NESTING) -> None:
    if not levels:
        raise ValueError(f"at most {MAX_NESTING} levels")
    if isinstance(value, str):
        if not value.isascii() and any("\ud800" <= character <= "\udfff" for character in value):
            raise ValueError("Unicode text, without halves of surrogate pairs")
    elif isinstance(value, dict):
        for part in (*value, *value.values()):
            _check_unicode(part, levels - 1)
    elif isinstance(value, list) and value and not isinstance(value[0], (int, float)):
        for part in value:
            _check_unicode(part, levels - 1)


class Strict(BaseModel):
    """Unknown fields are errors, and nothing is turned into what it is not."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    @field_validator("*")
    @classmethod
    def _is_unicode(cls, value: Any) -> Any:
        """JSON can escape halves of characters, which no tokenizer and no protobuf takes."""
        _check_unicode(value)
        return value


class Labels(Strict):
    """What clients send along for their own books; it changes nothing here."""

    user: str | None = None
    safety_identifier: str | None = None
    metadata: dict[str, Any] | None = None
    prompt_cache_key: str | None = None


class Neutral(Strict):
    """What this gateway does not do, accepted as long as it asks for nothing."""

    best_of: Literal[1] | None = None
    store: Literal[False] | None = None
    service_tier: Literal["auto", "default"] | None = None
    use_beam_search: Literal[False] | None = None
    include_stop_str_in_output: Literal[False] | None = None
    skip_special_tokens: Literal[True] | None = None
    spaces_between_special_tokens: Literal[True] | None = None
    return_token_ids: Literal[False] | None = None
    return_tokens_as_token_ids: Literal[False] | None = None
    bad_words: Nothing | None = None
    allowed_token_ids: Nothing | None = None
    truncate_prompt_tokens: None = None
    prompt_logprobs: None = None


class StreamOptions(Strict):
    include_usage: bool = False
    continuous_usage_stats: Literal[False] = False
    include_obfuscation: Literal[False] = False


class TextPart(Strict):
    type: Literal["text"]
    text: str


class Prediction(Strict):
    """The client's guess at the text."""

    type: Literal["content"]
    content: str | list[TextPart]

    @property
    def text(self) -> str:
        return self.content if isinstance(self.content, str) else "".join(part.text for part in self.content)


class Speculation(Strict):
    """How the request speculates; no field changes the text (DESIGN §1)."""

    mode: Literal["overlapped", "lockstep", "off"] | None = None
    shape: Literal["tree", "chain"] | None = None
    drafters: list[str] | None = None
    max_draft_nodes: int | None = None
    draft_depth: int | None = None
    draft_width: int | None = None
    cache_scope: Literal["shared", "tenant", "none"] | None = None
    events: bool = False


class JsonSchema(Strict):
    name: str
    description: str | None = None
    definition: dict[str, Any] = Field(alias="schema")
    strict: bool | None = None


class ResponseFormat(Strict):
    type: Literal["text", "json_object", "json_schema"]
    json_schema: JsonSchema | None = None


class StructuredOutputs(Strict):
    """vLLM's; one of them at most."""

    json_: dict[str, Any] | str | None = Field(None, alias="json")
    json_object: bool | None = None
    regex: str | None = None
    choice: list[str] | None = None
    grammar: str | None = None
