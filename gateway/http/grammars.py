"""The ways in which clients ask for structured output, as one grammar."""

from __future__ import annotations

import json
from typing import Any, Protocol

from gateway.http.fields import ResponseFormat, StructuredOutputs
from paceline.speculation.fields import require
from paceline.speculation.grammar import Grammar, GrammarKind

ANY_OBJECT = '{"type":"object"}'


class Constrained(Protocol):
    """The fields of a request that constrain its text."""

    response_format: ResponseFormat | None
    structured_outputs: StructuredOutputs | None
    guided_json: dict[str, Any] | str | None
    guided_regex: str | None
    guided_choice: list[str] | None
    guided_grammar: str | None
    guided_decoding_backend: str | None


def grammar_of(asked: Constrained) -> Grammar | None:
    """What the text is held to, if anything; raises ``FieldError`` if there are two."""
    wanted = _formatted(asked.response_format) | _structured(asked.structured_outputs) | _guided(asked)
    require(len(wanted) <= 1, " and ".join(wanted) or "grammar", len(wanted), "one constraint on the text")
    for kind, text in wanted.values():
        return Grammar(kind, text, asked.guided_decoding_backend or "")
    return None


def _formatted(asked: ResponseFormat | None) -> dict[str, tuple[GrammarKind, str]]:
    if asked is None:
        return {}
    described = asked.json_schema is not None
    require(
        described == (asked.type == "json_schema"), "response_format.json_schema", described, "with json_schema only"
    )
    if asked.json_schema is not None:
        return {"response_format": (GrammarKind.JSON_SCHEMA, json.dumps(asked.json_schema.definition))}
    return {"response_format": (GrammarKind.JSON_SCHEMA, ANY_OBJECT)} if asked.type == "json_object" else {}


def _structured(asked: StructuredOutputs | None) -> dict[str, tuple[GrammarKind, str]]:
    if asked is None:
        return {}
    found = _named("structured_outputs.", asked.json_, asked.regex, asked.choice, asked.grammar)
    if asked.json_object:
        found["structured_outputs.json_object"] = GrammarKind.JSON_SCHEMA, ANY_OBJECT
    return found


def _guided(asked: Constrained) -> dict[str, tuple[GrammarKind, str]]:
    return _named("guided_", asked.guided_json, asked.guided_regex, asked.guided_choice, asked.guided_grammar)


def _named(
    prefix: str, schema: dict[str, Any] | str | None, regex: str | None, choice: list[str] | None, grammar: str | None
) -> dict[str, tuple[GrammarKind, str]]:
    found = {}
    if schema is not None:
        text = schema if isinstance(schema, str) else json.dumps(schema)
        found[f"{prefix}json"] = GrammarKind.JSON_SCHEMA, text
    if regex is not None:
        found[f"{prefix}regex"] = GrammarKind.REGEX, regex
    if choice is not None:
        require(bool(choice), f"{prefix}choice", choice, "at least one string")
        found[f"{prefix}choice"] = GrammarKind.CHOICES, json.dumps(choice)
    if grammar is not None:
        found[f"{prefix}grammar"] = GrammarKind.EBNF, grammar
    return found
