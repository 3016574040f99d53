"""What the Dockerfiles promise, read from them; ``make images`` runs them."""

from __future__ import annotations

import fnmatch
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from tests.docker.dockerfile import DOCKERFILES, ROOT, Stage, image_of, lineage, read_stages

TORCHLESS = {("gateway", "gateway"), ("drafter", "lookup")}
SERVICES = {"gateway": "gateway", "verifier": "verifier_service", "drafter": "drafter_service"}
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


def service_of(file: Path) -> str:
    return file.name.removesuffix(".Dockerfile")


TARGETS = [
    (file, target)
    for file in DOCKERFILES
    for target, stage in read_stages(file).items()
    if image_of(file, target).entrypoint and any(said.rest.startswith("--from=") for said in stage.instructions)
]
"""Stages that are images of services."""
every_target = pytest.mark.parametrize(("file", "target"), TARGETS, ids=lambda value: getattr(value, "name", value))


def stages_within(file: Path, target: str) -> list[Stage]:
    """All that an image is made of: what it is built on, and what it copies from."""
    stages = read_stages(file)
    within = lineage(stages, target)
    copied = [
        re.match(r"--from=(\S+)", said.rest) for stage in within for said in stage.instructions if said.word == "COPY"
    ]
    return [*within, *(stage for found in copied if found for stage in stages_within(file, found[1]))]


def installs(file: Path, target: str) -> str:
    return "\n".join(
        said.rest for stage in stages_within(file, target) for said in stage.instructions if said.word == "RUN"
    )


def test_every_service_has_images_and_those_for_look_ups_have_no_torch() -> None:
    assert {service_of(file) for file in DOCKERFILES} == set(SERVICES)
    torchless = {
        (service_of(file), target) for file, target in TARGETS if "--extra engine" not in installs(file, target)
    }
    assert torchless == TORCHLESS
    assert {(service_of(file), target) for file, target in TARGETS} - TORCHLESS == {
        (service, target) for service in ("verifier", "drafter") for target in ("cpu", "gpu")
    }


def test_hadolint_has_nothing_to_say() -> None:
    hadolint = Path(sys.executable).with_name("hadolint")
    result = subprocess.run([hadolint, *DOCKERFILES], capture_output=True, text=True, check=False)
    assert (result.returncode, result.stdout) == (0, "")


@every_target
def test_an_image_runs_its_service_as_nobody_in_particular(file: Path, target: str) -> None:
    image = image_of(file, target)
    assert image.entrypoint == ["python", "-m", SERVICES[service_of(file)]]
    assert re.fullmatch(r"[1-9]\d+:[1-9]\d+", image.user), "kubelets want a number to know that it is not root"
    assert f"--uid {image.user.split(':')[0]} " in installs(file, target)


@every_target
def test_an_image_asks_for_the_health_of_the_port_that_it_exposes(file: Path, target: str) -> None:
    image = image_of(file, target)
    assert image.health == ["paceline", "probe", f"127.0.0.1:{image.exposed[0]}"]
    config = (ROOT / SERVICES[service_of(file)] / "config.py").read_text()
    assert re.search(rf"port: int = setting\(.*, {image.exposed[0]}\)", config), "the service's default"


@every_target
def test_an_image_says_what_it_is(file: Path, target: str) -> None:
    labels = {
        name.removeprefix("org.opencontainers.image."): value for name, value in image_of(file, target).labels.items()
    }
    assert labels["title"] == f"paceline-{service_of(file)}"
    assert labels["version"] == PROJECT["project"]["version"]
    assert labels["licenses"] == PROJECT["project"]["license"]
    assert labels["description"]


@pytest.mark.parametrize("file", DOCKERFILES, ids=service_of)
def test_versions_are_pinned(file: Path) -> None:
    """Base images by a variable, tools as ``make setup`` has them, packages by the lock."""
    text = file.read_text()
    assert re.search(r"^ARG PYTHON_IMAGE=python:\d+\.\d+-slim-\w+$", text, re.MULTILINE)
    assert {stage.base for stage in read_stages(file).values()} - set(read_stages(file)) == {base_image(text)}
    uv = re.search(r"^UV_VERSION := (\S+)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert uv
    assert f"ARG UV_VERSION={uv[1]}\n" in text
    resolved = [line for line in text.splitlines() if "--requirement" in line]
    assert resolved
    assert all("--constraint requirements.lock" in line for line in resolved)
    assert "--no-deps /wheels" in text


def base_image(text: str) -> str:
    return text.split("ARG PYTHON_IMAGE=", 1)[1].split("\n", 1)[0]


@pytest.mark.parametrize("file", DOCKERFILES, ids=service_of)
def test_what_is_copied_is_there_and_not_ignored(file: Path) -> None:
    let_in = [line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")]
    copies = [said.rest for stage in read_stages(file).values() for said in stage.instructions if said.word == "COPY"]
    names = {name for copy in copies if not copy.startswith("--") for name in copy.split()[:-1]}
    assert set(PROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]) <= names
    for name in names:
        assert (ROOT / name).exists()
        assert any(fnmatch.fnmatch(name, pattern) for pattern in let_in), name
