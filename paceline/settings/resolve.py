"""From flags, environment, file and defaults to one frozen value, with every error at once."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any, Generic, TypeVar

from paceline.settings.convert import convert_all
from paceline.settings.environment import read_environment
from paceline.settings.flags import CONFIG_FLAG, flag, read_flags, variable
from paceline.settings.redaction import redacted
from paceline.speculation.fields import Checks, FieldError, known_names

ConfigT = TypeVar("ConfigT")


class Origin(Enum):
    """Where a value comes from, the strongest first."""

    FLAG = "flag"
    ENVIRONMENT = "environment"
    FILE = "file"
    DEFAULT = "default"


@dataclass(frozen=True)
class Resolved(Generic[ConfigT]):
    """A service's settings and, by field, where each comes from."""

    config: ConfigT
    origins: Mapping[str, Origin]


@dataclass(frozen=True)
class _Sources:
    """What was given, by origin and field, not converted yet."""

    service: str
    file: str
    given: Mapping[Origin, Mapping[str, Any]]

    def origin(self, name: str) -> Origin:
        return next((origin for origin, values in self.given.items() if name in values), Origin.DEFAULT)

    def values(self) -> dict[str, Any]:
        """The strongest value of each field that was given."""
        weakest_first = reversed(list(self.given.values()))
        return {name: value for values in weakest_first for name, value in values.items()}

    def named(self, error: FieldError) -> FieldError:
        """With the flag, variable or key that has to be changed in place of the field."""
        name = error.field
        named = {Origin.ENVIRONMENT: variable(self.service, name), Origin.FILE: f"{self.file}: {name}"}
        field = named.get(self.origin(name), flag(name))
        return FieldError(field, redacted(name, error.value), error.expected)


def resolve(
    config: type[ConfigT], arguments: Sequence[str] | None, program: str, service: str = ""
) -> Resolved[ConfigT]:
    """Raises ``FieldError`` or ``FieldErrors`` with flags, variables and keys as their fields."""
    names = [field.name for field in dataclasses.fields(config)]  # type: ignore[arg-type]
    checks = Checks()
    flags = read_flags(config, arguments, program, service, checks)
    file = str(flags.pop(CONFIG_FLAG, ""))
    given: dict[Origin, Mapping[str, Any]] = {Origin.FLAG: flags}
    if service:
        given[Origin.ENVIRONMENT] = read_environment(names, variable(service, ""), checks)
        given[Origin.FILE] = _read_file(Path(file), names, checks) if file else {}
    sources = _Sources(service, file, given)
    values, wrong = convert_all(config, sources.values())
    checks.errors += [sources.named(error) for error in wrong.values()]
    built = _build(config, values, wrong, sources, checks)
    checks.finish()
    assert built is not None, "or else there was an error"
    return Resolved(built, {name: sources.origin(name) for name in names})


def _build(
    config: type[ConfigT], values: dict[str, Any], wrong: Collection[str], sources: _Sources, checks: Checks
) -> ConfigT | None:
    """Notes what the configuration refuses, but for values that only stand in for ``wrong`` ones."""
    try:
        return config(**values)
    except FieldError as found:
        checks.errors += [
            sources.named(error) if error.field in values else error
            for error in found.errors
            if error.field not in wrong
        ]
    return None


def _read_file(file: Path, names: Sequence[str], checks: Checks) -> dict[str, Any]:
    from paceline.settings.yaml_file import read_yaml

    data: Any = None
    with checks.caught():
        data = read_yaml(CONFIG_FLAG, file)
        checks.require(isinstance(data, dict), str(file), data, "a mapping of settings")
    values = data if isinstance(data, dict) else {}
    for key, value in values.items():
        expected = f"one of the keys {known_names(names, str(key))}"
        checks.require(key in names, f"{file}: {key}", redacted(str(key), value), expected)
    return {key: value for key, value in values.items() if key in names}
