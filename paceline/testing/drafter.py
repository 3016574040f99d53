"""``python -m paceline.testing.drafter --script flooding --verifiers ADDRESS``: a scripted drafter as a process."""

from __future__ import annotations

import asyncio
import sys

from paceline import process
from paceline.settings import parse
from paceline.testing.drafters import ScriptedConfig, scripted_drafter


async def serve(config: ScriptedConfig, stop: asyncio.Event) -> None:
    async with scripted_drafter(config):
        await stop.wait()


def main() -> int:
    process.prepare()
    config = parse(ScriptedConfig, None, "python -m paceline.testing.drafter", "scripted")
    return process.run(lambda stop: serve(config, stop), name=config.name, exit_with_parent=config.exit_with_parent)


if __name__ == "__main__":
    sys.exit(main())
