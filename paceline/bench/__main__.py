"""``python -m paceline.bench NAME``: benchmarks that need the engine's libraries, in a process of their own."""

from __future__ import annotations

import sys

from paceline import process
from paceline.settings import parse

NAMES = ("engine", "prefill", "decode", "overlap")


def main() -> int:
    process.prepare()
    name, *arguments = sys.argv[1:] or [""]
    program = f"paceline bench {name}"
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
        case _:
            sys.stderr.write(f"paceline bench {name!r}: expected one of {', '.join(NAMES)}\n")
            return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
