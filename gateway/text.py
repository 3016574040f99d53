"""Between text and tokens, without a model: tokenizer, chat template, incremental detokenizer."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime

from jinja2.exceptions import TemplateError
from jinja2.sandbox import ImmutableSandboxedEnvironment
from tokenizers import Tokenizer
from tokenizers.decoders import DecodeStream

from paceline.errors import FailedPrecondition, FieldError
from paceline.logs import get_logger
from paceline.messages import ChatMessage, TokenizerFiles
from paceline.speculation.fields import require

logger = get_logger(__name__)

UNFINISHED = "\ufffd"
NO_OPTIONS: Mapping[str, object] = {}


class TextCodec:
    """One model's tokenizer and chat template."""

    def __init__(self, files: TokenizerFiles) -> None:
        self.hash = files.tokenizer_hash
        self._tokenizer = Tokenizer.from_str(files.tokenizer_json.decode()) if files.tokenizer_json else None
        self._special = files.special_tokens
        self._template = _environment().from_string(files.chat_template) if files.chat_template else None

    @property
    def tokenizer(self) -> Tokenizer:
        if self._tokenizer is None:
            raise FailedPrecondition("the target has no tokenizer.json: send token ids, read token ids")
        return self._tokenizer

    def encode(self, text: str) -> list[int]:
        """Token ids of a plain prompt, with the special tokens that the tokenizer itself adds."""
        return list(self.tokenizer.encode(text).ids)

    def encode_chat(self, messages: Sequence[ChatMessage], options: Mapping[str, object] = NO_OPTIONS) -> list[int]:
        """Token ids of a conversation as the model's chat template writes it; ``options`` are the template's own."""
        if self._template is None:
            raise FailedPrecondition("the model has no chat template: send text instead")
        plain = [{"role": message.role, "content": message.content} for message in messages]
        given = {"messages": plain, "add_generation_prompt": True, "tools": None, "documents": None, **self._special}
        for name in options:
            require(name not in given, "chat_template_kwargs", name, "names that are the template's own")
        try:
            text = self._template.render({**given, **options})
        except Exception as error:
            roles = [message.role for message in messages]
            raise FieldError("messages", roles, f"what the template takes: {error}") from error
        return list(self.tokenizer.encode(text, add_special_tokens=False).ids)

    def decode(self, token_ids: Sequence[int]) -> str:
        """The text of whole tokens, special ones included."""
        return str(self.tokenizer.decode(list(token_ids), skip_special_tokens=False))

    def detokenizer(self) -> Detokenizer:
        return Detokenizer(self._tokenizer)


class Detokenizer:
    """Turns tokens into text as they come, whole characters only."""

    def __init__(self, tokenizer: Tokenizer | None) -> None:
        self._tokenizer = tokenizer
        self._stream = DecodeStream(skip_special_tokens=True)
        self._token_ids: list[int] = []
        self._length = 0

    def add(self, token_ids: Sequence[int]) -> list[str]:
        """The text that each token completes; empty while a character is unfinished or there is no tokenizer."""
        if self._tokenizer is None:
            return [""] * len(token_ids)
        self._token_ids.extend(token_ids)
        pieces = [self._step(self._tokenizer, token_id) for token_id in token_ids]
        self._length += sum(map(len, pieces))
        return pieces

    def _step(self, tokenizer: Tokenizer, token_id: int) -> str:
        try:
            return self._stream.step(tokenizer, token_id) or ""
        except Exception as error:  # noqa: BLE001 - byte-fallback tokenizers may end the stream: "Invalid prefix"
            logger.warning("a detokenizer starts afresh", error=type(error).__name__)
            self._stream = DecodeStream(skip_special_tokens=True)
            return self._stream.step(tokenizer, token_id) or ""

    def flush(self) -> str:
        """What was held back, without a character that never became whole."""
        if self._tokenizer is None:
            return ""
        return self._tokenizer.decode(self._token_ids, skip_special_tokens=True)[self._length :].rstrip(UNFINISHED)


def _environment() -> ImmutableSandboxedEnvironment:
    """What chat templates are written for: Jinja as Transformers sets it up."""
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"]
    )
    environment.globals["raise_exception"] = _raise
    environment.globals["strftime_now"] = lambda form: datetime.now().astimezone().strftime(form)
    environment.filters["tojson"] = _to_json
    return environment


def _to_json(value: object, indent: int | None = None) -> str:
    """Unlike Jinja's own, without escapes for HTML."""
    return json.dumps(value, ensure_ascii=False, indent=indent)


def _raise(message: str) -> None:
    raise TemplateError(message)
