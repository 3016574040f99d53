"""``python -m tests.docker.images``: builds the images of ``compose.yaml`` and serves a text from them.

Services run as in the compose file: as their user, without capabilities, on a read-only root. Needs root, and the
packages that the Dockerfiles name.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import typer

from paceline.client import GatewayClient
from paceline.messages import Generate
from paceline.speculation.sampling import SamplingParameters
from tests.docker.build import STORE, Builder, Layer, confined, has_torch, seal, store
from tests.docker.compose import LocalCompose, Service, bring_down, bring_up, local_compose, read_compose
from tests.docker.dockerfile import ROOT

INSIDE = "PACELINE_IMAGES_INSIDE"
WITH_TORCH = {"verifier", "draft"}


class ImageCompose(LocalCompose):
    """Services from their images; what is no image of ours as a process of this machine."""

    def __init__(self, services: Mapping[str, Service], folder: Path, layers: Mapping[str, Layer]) -> None:
        super().__init__(services, folder)
        self._layers = layers

    def placed(self, name: str, command: Sequence[str]) -> list[str]:
        layer = self._layers.get(name)
        if layer is None:
            return super().placed(name, command)
        return [*confined(layer), *(self.here(name, word) for word in command)]


def build_all(services: Mapping[str, Service], given: Mapping[str, str]) -> dict[str, Layer]:
    """The images of the services that have Dockerfiles, by service."""
    builders: dict[str, Builder] = {}
    layers = {}
    for name, service in services.items():
        if build := service.data.get("build"):
            builder = builders.setdefault(build["dockerfile"], Builder(ROOT / build["dockerfile"], given))
            layers[name] = builder.build(build.get("target", ""))
    return layers


async def serve(services: Mapping[str, Service], layers: Mapping[str, Layer]) -> str:
    """A text from the fleet of the images."""
    with local_compose(ImageCompose(services, STORE, layers)) as local:
        await bring_up(local)
        async with GatewayClient(f"{local.addresses['gateway']}:50051") as client:
            asked = Generate(text="def read_lines(path):\n", sampling=SamplingParameters(max_tokens=32), seed=7)
            text = "".join([chunk.text async for chunk in client.generate(asked)])
        await bring_down(local)
    return text


def main() -> None:
    if INSIDE not in os.environ:  # mounts are seen by us alone, and gone with us
        command = ["unshare", "--mount", "--propagation", "private", sys.executable, "-m", "tests.docker.images"]
        os.execvpe("unshare", [*command, *sys.argv[1:]], os.environ | {INSIDE: "1"})
    parser = argparse.ArgumentParser(description="Build the images of docker/compose.yaml and serve a text from them.")
    parser.add_argument("--build-arg", action="append", default=[], help="NAME=VALUE as for docker build; empty: unset")
    given = dict(argument.split("=", maxsplit=1) for argument in parser.parse_args().build_arg)
    with store():
        services = read_compose()
        layers = build_all(services, given)
        for name, layer in layers.items():
            seal(layer)
            assert has_torch(layer) is (name in WITH_TORCH), f"{name}: torch where none is wanted, or none"
            typer.echo(f"{services[name].data['image']}: {layer.megabytes} MB beside the base image")
        typer.echo(asyncio.run(serve(services, layers)))


if __name__ == "__main__":
    main()
