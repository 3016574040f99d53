"""Settings from a command line: which flags were given, with their texts as they are."""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Sequence
from typing import Any, get_type_hints

from paceline.settings.redaction import redacted
from paceline.speculation.fields import Checks, FieldError, known_names

CONFIG_FLAG = "--config"


def flag(name: str) -> str:
    """The flag of a field."""
    return f"--{name.replace('_', '-')}"


def variable(service: str, name: str) -> str:
    """The environment variable of a service's field."""
    return f"PACELINE_{service}_{name}".upper()


def read_flags(
    config: type[Any], arguments: Sequence[str] | None, program: str, service: str, checks: Checks
) -> dict[str, Any]:
    """Texts (of switches: truth values) by field, ``--config`` among them as ``--config``; unknown flags are noted.

    What is no command line at all, such as a flag without its value, ends the process here.
    """
    hints = get_type_hints(config)
    parser = argparse.ArgumentParser(
        prog=program, description=config.__doc__, epilog=_sources(service), argument_default=argparse.SUPPRESS
    )
    for field in dataclasses.fields(config):
        is_switch = hints[field.name] is bool
        action: Any = argparse.BooleanOptionalAction if is_switch else "store"
        parser.add_argument(flag(field.name), dest=field.name, action=action, help=_help(field))
    if service:
        parser.add_argument(CONFIG_FLAG, dest=CONFIG_FLAG, metavar="FILE", help="YAML file of further settings")
    given, unknown = parser.parse_known_args(arguments)
    _refuse_unknown(unknown, [flag(field.name).removeprefix("--") for field in dataclasses.fields(config)], checks)
    return vars(given)


def _refuse_unknown(words: Sequence[str], known: Sequence[str], checks: Checks) -> None:
    groups: list[list[str]] = []
    for word in words:
        if word.startswith("-") or not groups:
            groups.append(word.split("=", 1))
        else:  # the value, we suppose, of the unknown flag before it
            groups[-1].append(word)
    for name, *values in groups:
        expected = f"one of the flags {known_names(known, name, '--')}"
        checks.errors.append(FieldError(name, redacted(name, " ".join(values)), expected))


def _help(field: dataclasses.Field[Any]) -> str:
    text = str(field.metadata.get("help", "")).replace("%", "%%")
    return f"{text} (required)" if field.default is dataclasses.MISSING else f"{text} (default: {field.default})"


def _sources(service: str) -> str:
    if not service:
        return ""
    return (
        f"Each setting may also be given as a variable {variable(service, '<setting>')} or as a key of the file that "
        f"{CONFIG_FLAG} names. Flags come before variables, variables before the file."
    )
