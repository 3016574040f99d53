"""Command lines of the services: one frozen dataclass per service, parsed once.

Every field becomes ``--field-name``; its default, type and help come from the dataclass. Unknown flags and bad values
end the process at once, naming flag, value and what was expected.
"""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar, get_args, get_type_hints

from paceline.speculation.fields import FieldError

ConfigT = TypeVar("ConfigT")


def setting(help_: str, default: Any = dataclasses.MISSING) -> Any:
    """A field with a help text; without a default it is required."""
    return dataclasses.field(default=default, metadata={"help": help_})


def parse(config: type[ConfigT], arguments: Sequence[str] | None, program: str) -> ConfigT:
    """Builds ``config`` from a command line; exits with status 2 and a message when it cannot."""
    parser = argparse.ArgumentParser(
        prog=program, description=config.__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    hints = get_type_hints(config)
    for field in dataclasses.fields(config):  # type: ignore[arg-type]
        _add(parser, field, hints[field.name])
    values = vars(parser.parse_args(arguments))
    try:
        return config(**values)
    except FieldError as error:
        parser.error(f"--{error.field.replace('_', '-')} {error.value}: expected {error.expected}")


def _add(parser: argparse.ArgumentParser, field: dataclasses.Field[Any], hint: Any) -> None:
    flag = f"--{field.name.replace('_', '-')}"
    required = field.default is dataclasses.MISSING
    options: dict[str, Any] = {"help": field.metadata.get("help", ""), "required": required}
    if not required:
        options["default"] = field.default
    plain = [part for part in get_args(hint) if part is not type(None)]
    if hint is bool:
        parser.add_argument(flag, action="store_true", help=options["help"])
    elif hint == tuple[str, ...]:
        parser.add_argument(flag, type=_words, **options)
    else:
        kind = plain[0] if plain else hint
        parser.add_argument(flag, type=Path if kind is Path else kind, **options)


def _words(text: str) -> tuple[str, ...]:
    return tuple(word for word in text.split(",") if word)
