"""``python -m paceline.bench NAME``: benchmarks that need the engine's libraries, in a process of their own."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from paceline import process
from paceline.errors import FieldError, PacelineError
from paceline.settings import parse

NAMES = ("engine", "prefill", "decode", "overlap", "drafters", "rag", "lookup", "accelerator")


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
    match name:
        case "engine":
            from paceline.bench import engine

            engine.run(parse(engine.EngineBench, arguments, program))
        case "prefill":
            from paceline.bench import prefill

            prefill.run(parse(prefill.PrefillBench, arguments, program))
        case "decode":
            from paceline.bench import decode

            decode.run(parse(decode.DecodeBench, arguments, program))
        case "overlap":
            from paceline.bench import overlap

            overlap.run(parse(overlap.OverlapBench, arguments, program))
        case "drafters":
            from paceline.bench import drafters

            drafters.run(parse(drafters.DraftersBench, arguments, program))
        case "rag":
            from paceline.bench import rag

            rag.run(parse(rag.RagBench, arguments, program))
        case "lookup":
            from paceline.bench import lookup

            lookup.run(parse(lookup.LookupBench, arguments, program))
        case "accelerator":
            from paceline.bench import accelerator

            accelerator.run(parse(accelerator.AcceleratorBench, arguments, program))
        case _:
            sys.stderr.write(f"paceline bench {name!r}: expected one of {', '.join(NAMES)}\n")
            return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
