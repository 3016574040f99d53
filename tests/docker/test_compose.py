"""``docker/compose.yaml``: its command lines, run as processes here, are a fleet that says what any other says."""

from __future__ import annotations

import re
from pathlib import Path

import yaml
from tokenizers import Tokenizer

from paceline.bench.prompts import CODE_PROMPTS
from paceline.client import GatewayClient
from paceline.embedded import TARGET
from paceline.messages import Generate
from paceline.speculation.sampling import SamplingParameters
from tests.compare import assert_same_text
from tests.docker.compose import COMPOSE, LocalCompose, bring_down, bring_up, local_compose, read_compose
from tests.docker.dockerfile import DOCKERFILES, ROOT
from tests.local_fleet import target_alone

SAMPLING = SamplingParameters(max_tokens=64, temperature=0.8)
SEED = 2026
DEMO = Generate(text=CODE_PROMPTS[0], sampling=SAMPLING, seed=SEED)


async def test_command_lines_and_health_checks_of_the_file_serve_the_demo_text(tmp_path: Path) -> None:
    with local_compose(LocalCompose(read_compose(), tmp_path)) as local:
        await bring_up(local)
        async with GatewayClient(f"{local.addresses['gateway']}:50051") as client:
            text = [token_id async for chunk in client.generate(DEMO) for token_id in chunk.token_ids]
            workers = {worker.worker_id: worker.healthy for worker in await client.workers()}
        await bring_down(local)
    assert workers == {"verifier": True, "draft": True, "ngram": True}
    expected = await target_alone(DEMO)
    assert len(expected) > 8
    prompt = Tokenizer.from_file(str(TARGET / "tokenizer.json")).encode(CODE_PROMPTS[0]).ids
    assert_same_text(TARGET, prompt, text, expected, SAMPLING, SEED)


def test_ports_are_published_on_loopback_only() -> None:
    for service in read_compose().values():
        for port in service.data.get("ports", []):
            host, outside, inside = port.split(":")
            assert (host, outside) == ("127.0.0.1", inside)
            assert int(inside) in service.image.exposed


def test_services_are_confined() -> None:
    for name, service in read_compose().items():
        data = service.data
        assert (data["read_only"], data["cap_drop"], data["security_opt"]) == (
            True,
            ["ALL"],
            ["no-new-privileges:true"],
        )
        assert data.get("user", service.image.user).split(":")[0] not in ("0", "root"), name


def test_builds_are_of_files_and_stages_that_are_there() -> None:
    built = [
        service["build"] for service in yaml.safe_load(COMPOSE.read_text())["services"].values() if "build" in service
    ]
    assert {ROOT / build["dockerfile"] for build in built} == set(DOCKERFILES)
    assert all((COMPOSE.parent / build["context"]).resolve() == ROOT for build in built)


def test_images_are_called_by_version_and_target() -> None:
    for service in read_compose().values():
        if build := service.data.get("build"):
            name, version = (service.image.labels[f"org.opencontainers.image.{key}"] for key in ("title", "version"))
            target = f"-{build['target']}" if "target" in build else ""
            assert service.data["image"] == f"{name}:{version}{target}"


def test_names_that_are_dialled_are_services() -> None:
    services = read_compose()
    for service in services.values():
        text = " ".join([*service.command, *service.environment.values()])
        dialled = re.findall(r"([a-z]+):\d{4,5}", text)
        assert set(dialled) <= set(services), service.name
