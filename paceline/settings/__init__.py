"""Settings of the services: one frozen dataclass per service, resolved once.

Every field is a flag ``--field-name``, a variable ``PACELINE_<SERVICE>_<FIELD_NAME>`` and a key ``field_name`` of the
file that ``--config`` names, in this order of precedence; its default, type and help come from the dataclass. Unknown
names and bad values end the process at once, each on a line that names source, value and what was expected.
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Sequence
from typing import Any, TypeVar

from paceline.settings.resolve import Origin, Resolved, resolve
from paceline.speculation.fields import FieldError

__all__ = ["Origin", "Resolved", "parse", "resolve", "setting"]

ConfigT = TypeVar("ConfigT")


def setting(help_: str, default: Any = dataclasses.MISSING) -> Any:
    """A field with a help text; without a default it is required."""
    return dataclasses.field(default=default, metadata={"help": help_})


def parse(config: type[ConfigT], arguments: Sequence[str] | None, program: str, service: str = "") -> ConfigT:
    """Resolves ``config``; exits with status 2 and a line for every error when it cannot.

    ``service`` is the name in its variables; without one there are neither variables nor a file, as for benchmarks.
    """
    try:
        return resolve(config, arguments, program, service).config
    except FieldError as found:
        for error in found.errors:
            sys.stderr.write(f"{program}: error: {error.field} {error.value}: expected {error.expected}\n")
        sys.stderr.write(f"{program}: --help shows all settings\n")
        raise SystemExit(2) from None
