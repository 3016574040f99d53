"""Dockerfiles, as far as ours go: stages of instructions, and what the image of a stage is started with."""

from __future__ import annotations

import json
import re
import shlex
import string
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
DOCKERFILES = sorted((ROOT / "docker").glob("*.Dockerfile"))
_FROM = re.compile(r"(\S+) AS (\S+)")


@dataclass(frozen=True)
class Instruction:
    """``word`` in capitals; ``rest`` as it is written, on one line."""

    word: str
    rest: str


@dataclass(frozen=True)
class Stage:
    """``base``: another stage's name, or an image's with its variables put in."""

    name: str
    base: str
    instructions: tuple[Instruction, ...]


@dataclass
class Image:
    """What containers of an image get, unless they are told otherwise."""

    environment: dict[str, str] = field(default_factory=dict)
    arguments: dict[str, str] = field(default_factory=dict)
    labels: dict[str, str] = field(default_factory=dict)
    user: str = "root"
    directory: str = "/"
    exposed: list[int] = field(default_factory=list)
    health: list[str] = field(default_factory=list)
    entrypoint: list[str] = field(default_factory=list)

    def fill(self, text: str) -> str:
        """``text`` with values in place of variables."""
        return string.Template(text).safe_substitute(self.arguments | self.environment)

    def take(self, said: Instruction, given: Mapping[str, str] | None = None) -> None:
        """What an instruction changes about it; RUN and COPY change only files. ``given``: arguments in place of their
        defaults; one that is empty is left out."""
        match said.word:
            case "ARG":
                name, _, default = said.rest.partition("=")
                if value := (given or {}).get(name, default):
                    self.arguments[name] = value
            case "ENV":
                self.environment |= _pairs(self.fill(said.rest))
            case "LABEL":
                self.labels |= _pairs(self.fill(said.rest))
            case "USER":
                self.user = said.rest
            case "WORKDIR":
                self.directory = said.rest
            case "EXPOSE":
                self.exposed = [int(port) for port in said.rest.split()]
            case "HEALTHCHECK":
                self.health = json.loads(said.rest.partition("CMD ")[2])
            case "ENTRYPOINT":
                self.entrypoint = json.loads(said.rest)


def read_stages(file: Path) -> dict[str, Stage]:
    """By name, in the order of the file; the last one is what is built if none is named."""
    stages: dict[str, Stage] = {}
    before: dict[str, str] = {}
    name, base, body = "", "", list[Instruction]()
    for said in _instructions(file.read_text()):
        if said.word == "FROM":
            found = _FROM.fullmatch(string.Template(said.rest).substitute(before))
            assert found, f"{file.name}: a stage without a name: {said.rest}"
            (base, name), body = found.groups(), []
        elif name:
            body.append(said)
        else:
            before |= _pairs(said.rest)
        if name:
            stages[name] = Stage(name, base, tuple(body))
    return stages


def lineage(stages: Mapping[str, Stage], target: str) -> list[Stage]:
    """The stages that ``target`` is built on, the first one first, itself last."""
    stage = stages[target]
    return [*(lineage(stages, stage.base) if stage.base in stages else []), stage]


def image_of(file: Path, target: str = "") -> Image:
    """Of the stage ``target``, or of the last one."""
    stages, image = read_stages(file), Image()
    for stage in lineage(stages, target or list(stages)[-1]):
        image.arguments = {}
        for said in stage.instructions:
            image.take(said)
    return image


def _instructions(text: str) -> list[Instruction]:
    lines = [line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    whole = re.sub(r"\\\n\s*", "", "\n".join(lines))
    return [Instruction(*line.split(maxsplit=1)) for line in whole.splitlines()]


def _pairs(text: str) -> dict[str, str]:
    """``NAME=VALUE`` words."""
    return dict(word.split("=", maxsplit=1) for word in shlex.split(text))
