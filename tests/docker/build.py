"""Builds the stages of Dockerfiles without a container engine, as far as ours go.

Each stage is an overlay over this machine, which stands for the base image; each instruction is done to it, RUN by
chroot. Needs root and a mount namespace of its own.
"""

from __future__ import annotations

import contextlib
import copy
import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import typer

from tests.docker.dockerfile import ROOT, Image, Instruction, Stage, read_stages

STORE = ROOT / "build" / "images"
STORE_BYTES = 16 << 30
"""Of a sparse file: overlays cannot lie in what they are laid over."""


@dataclass(frozen=True)
class Layer:
    """A stage that is built: its files as it sees them, and what it changed, on top of what its bases changed."""

    root: Path
    changed: tuple[Path, ...]
    image: Image

    @property
    def megabytes(self) -> int:
        """Of all that is not of the base image."""
        said = subprocess.run(["du", "-cm", *self.changed], check=True, capture_output=True, text=True).stdout
        return int(said.split()[-2])


@contextlib.contextmanager
def store() -> Iterator[None]:
    """A file system for the layers, which begins empty."""
    shutil.rmtree(STORE, ignore_errors=True)
    STORE.mkdir(parents=True)
    file = STORE.with_suffix(".ext4")
    try:
        with file.open("wb") as sparse:
            sparse.truncate(STORE_BYTES)
        subprocess.run(["mkfs.ext4", "-q", str(file)], check=True)
        _mount("-o", "loop", file, STORE)
        yield
    finally:
        subprocess.run(["umount", "--recursive", "--lazy", str(STORE)], check=False)
        file.unlink()


class Builder:
    """Builds stages of one Dockerfile, each once."""

    def __init__(self, file: Path, given: Mapping[str, str]) -> None:
        """``given``: build arguments in place of their defaults."""
        self._stages, self._given, self._name = read_stages(file), given, file.stem
        self._layers: dict[str, Layer] = {}

    def build(self, target: str) -> Layer:
        name = target or list(self._stages)[-1]
        if name not in self._layers:
            typer.echo(f"{self._name}: {name}")
            self._layers[name] = self._build(self._stages[name])
        return self._layers[name]

    def _build(self, stage: Stage) -> Layer:
        base = self.build(stage.base) if stage.base in self._stages else None
        image = copy.deepcopy(base.image) if base else Image(environment={"PATH": os.environ["PATH"]})
        image.arguments = {}
        layer = _lay(STORE / f"{self._name}-{stage.name}", base.changed if base else (), image)
        for said in stage.instructions:
            image.take(said, self._given)
            self._do(said, layer)
        return layer

    def _do(self, said: Instruction, layer: Layer) -> None:
        image = layer.image
        match said.word:
            case "RUN":
                command = ["chroot", str(layer.root), "/bin/sh", "-ec", f"cd {image.directory}\n{said.rest}"]
                subprocess.run(command, check=True, env=os.environ | image.arguments | image.environment)
            case "WORKDIR":
                (layer.root / image.directory.lstrip("/")).mkdir(parents=True, exist_ok=True)
            case "COPY":
                self._copy(said.rest.split(), layer)

    def _copy(self, words: Sequence[str], layer: Layer) -> None:
        source = ROOT
        if words[0].startswith("--from="):
            source = self.build(words[0].removeprefix("--from=")).root
            words = words[1:]
        *names, into = words
        target = layer.root / str(Path(layer.image.directory, into)).lstrip("/")
        for name in names:
            there = source / name.lstrip("/")
            if there.is_dir():
                shutil.copytree(there, target, symlinks=True, dirs_exist_ok=True, ignore=_ignore)
            else:
                shutil.copy2(there, target)


_ignore = shutil.ignore_patterns("__pycache__")


def _lay(folder: Path, below: tuple[Path, ...], image: Image) -> Layer:
    """A new layer over those ``below`` and this machine, with what programs need of a running system."""
    root, changed, work = (folder / name for name in ("root", "changed", "work"))
    for path in (root, changed, work):
        path.mkdir(parents=True)
    lower = ":".join(map(str, (*below, "/")))
    _mount("-t", "overlay", "overlay", "-o", f"lowerdir={lower},upperdir={changed},workdir={work}", root)
    for name in ("proc", "dev", "sys"):
        _mount("--rbind", f"/{name}", root / name)
    (root / "root").chmod(0o755)  # the base's Python may lie there
    return Layer(root, (changed, *below), image)


def _mount(*arguments: str | Path) -> None:
    subprocess.run(["mount", *arguments], check=True)


def confined(layer: Layer) -> list[str]:
    """What a command is put behind to run as in a container."""
    user, group = layer.image.user.split(":")
    rights = [f"--reuid={user}", f"--regid={group}", "--clear-groups", "--no-new-privs", "--bounding-set=-all"]
    within = [f"--chdir={layer.image.directory}", f"PATH={layer.image.environment['PATH']}"]
    return ["chroot", str(layer.root), "setpriv", *rights, "env", *within]


def seal(layer: Layer) -> None:
    """As the compose file has it: a read-only root, and a /tmp."""
    _mount("-t", "tmpfs", "tmpfs", layer.root / "tmp")
    _mount("-o", "remount,ro", layer.root)


def has_torch(layer: Layer) -> bool:
    program = "import importlib.util, sys; sys.exit(importlib.util.find_spec('torch') is None)"
    return subprocess.run([*confined(layer), "python", "-c", program], check=False).returncode == 0
