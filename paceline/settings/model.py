"""A configuration as a pydantic model: reads the environment and converts values, naming every one that it cannot.

Importing pydantic takes a quarter of a second, so only what is about to resolve a configuration imports this.
"""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, get_args, get_origin, get_type_hints

from pydantic import BeforeValidator, ValidationError, create_model
from pydantic_settings import BaseSettings, EnvSettingsSource, NoDecode, PydanticBaseSettingsSource, SettingsConfigDict

_EXPECTED: dict[Any, str] = {
    int: "a whole number", float: "a number", bool: "true or false", str: "a string", Path: "a path",
    tuple: "strings, separated by commas",
}  # fmt: skip


class _Model(BaseSettings):
    """Takes what it is given: precedence is decided where origins are known."""

    model_config = SettingsConfigDict(protected_namespaces=(), allow_inf_nan=False)

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],  # noqa: ARG003 - they are all named by the library
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return (init_settings,)


def build_model(config: type[Any]) -> type[BaseSettings]:
    """The model of a frozen dataclass: its fields with their types and defaults."""
    hints = get_type_hints(config)
    fields: dict[str, Any] = {
        field.name: (_annotated(hints[field.name]), ... if field.default is dataclasses.MISSING else field.default)
        for field in dataclasses.fields(config)
    }
    with warnings.catch_warnings():  # a field may be called json: nothing of the model but its values is used
        warnings.simplefilter("ignore", UserWarning)
        return create_model(config.__name__, __base__=_Model, **fields)


def read_environment(model: type[BaseSettings], prefix: str) -> dict[str, Any]:
    """Texts by field of the variables that begin with ``prefix``."""
    return EnvSettingsSource(model, env_prefix=prefix)()


def convert(model: type[BaseSettings], values: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, str]]:
    """All fields' values, and what was expected of those in ``values`` that are not of their type.

    A value that is missing or wrong is the field's default, or the empty one of its type.
    """
    wrong: dict[str, str] = {}
    good = dict(values)
    while True:
        try:
            converted = model(**good)
        except ValidationError as error:
            for name in {str(problem["loc"][0]) for problem in error.errors()}:
                field = model.model_fields[name]
                if name in values:
                    wrong[name] = _EXPECTED[_kind(field.annotation)]
                if field.is_required():
                    good[name] = _kind(field.annotation)()
                else:
                    del good[name]
        else:
            return {name: getattr(converted, name) for name in model.model_fields}, wrong


def _annotated(hint: Any) -> Any:
    kind = _kind(hint)
    if kind is tuple:
        return Annotated[hint, NoDecode, BeforeValidator(_words)]
    if type(None) in get_args(hint):
        return Annotated[hint, BeforeValidator(_nothing)]
    return Annotated[hint, BeforeValidator(_number)] if kind in (int, float) else hint


def _kind(hint: Any) -> Any:
    """``int`` of ``int | None``, ``tuple`` of ``tuple[str, ...]``."""
    if get_origin(hint) is tuple:
        return tuple
    return next((part for part in get_args(hint) if part is not type(None)), hint)


def _words(value: Any) -> Any:
    return tuple(word for word in value.split(",") if word) if isinstance(value, str) else value


def _nothing(value: Any) -> Any:
    return None if value == "" else value


def _number(value: Any) -> Any:
    if isinstance(value, bool):
        raise ValueError("truth values are not numbers here")  # noqa: TRY004 - what pydantic expects of validators
    return value
