"""``python -m paceline.bench NAME``: benchmarks that need the engine's libraries, in a process of their own."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence

from paceline import process
from paceline.errors import FieldError, PacelineError
from paceline.settings import parse

NAMES = (
    "engine",
    "prefill",
    "decode",
    "overlap",
    "drafters",
    "rag",
    "lookup",
    "grammar",
    "serve",
    "accelerator",
    "hostile",
    "chaos",
    "journal",
    "telemetry",
)


def main() -> int:
    process.prepare()
    name, *arguments = sys.argv[1:] or [""]
    program = f"paceline bench {name}"
    try:
        return _run(name, arguments, program)
    except (FieldError, PacelineError) as error:  # what only running it could find wrong
        sys.stderr.write(f"{program}: {error}\n")
        return 2 if isinstance(error, FieldError) else 1


def _run(name: str, arguments: Sequence[str], program: str) -> int:
    """Each benchmark is a module with ``run`` and, named after it, the class of its settings."""
    if name not in NAMES:
        sys.stderr.write(f"paceline bench {name!r}: expected one of {', '.join(NAMES)}\n")
        return 2
    module = importlib.import_module(f"paceline.bench.{name}")
    module.run(parse(getattr(module, f"{name.capitalize()}Bench"), arguments, program))
    return 0


if __name__ == "__main__":
    sys.exit(main())
