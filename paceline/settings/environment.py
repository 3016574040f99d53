"""Settings from environment variables, as pydantic-settings finds them.

It takes a quarter of a second to import: only what has variables to read imports it. Values are left as texts, since
flags come with the same texts and have to mean the same.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence

from paceline.settings.redaction import redacted
from paceline.speculation.fields import Checks, known_names


def read_environment(names: Sequence[str], prefix: str, checks: Checks) -> dict[str, str]:
    """Texts by field of the variables that begin with ``prefix``; those of no field are noted."""
    there = [name for name in os.environ if name.upper().startswith(prefix)]
    known = [name.upper() for name in names]
    for name in there:
        expected = f"one of the variables {known_names(known, name.upper(), prefix)}"
        value = redacted(name, os.environ[name])
        checks.require(name.upper().removeprefix(prefix) in known, name, value, expected)
    return _read(names, prefix) if there else {}


def _read(names: Sequence[str], prefix: str) -> dict[str, str]:
    from pydantic import create_model
    from pydantic_settings import BaseSettings, EnvSettingsSource

    with warnings.catch_warnings():  # a field may be called json: nothing of the model is used but its names
        warnings.simplefilter("ignore", UserWarning)
        fields: dict[str, type[str]] = dict.fromkeys(names, str)
        model = create_model("Variables", __base__=BaseSettings, **fields)  # type: ignore[call-overload]
    return EnvSettingsSource(model, env_prefix=prefix)()
