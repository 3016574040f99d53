"""``paceline render kubernetes``: a topology as an overlay of ``k8s/``, the same text for the same topology."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any, TypeGuard

import yaml

from paceline.cluster.announcing import DRAFTER, VERIFIER
from paceline.cluster.kubernetes import outside
from paceline.cluster.kubernetes.pools import Workload, workloads
from paceline.cluster.kubernetes.refusals import check_renderable
from paceline.cluster.topology import EMBEDDED, Topology
from paceline.settings.flags import variable
from paceline.speculation.fields import FieldError, every_error, require

HEADER = "# Written by 'paceline render kubernetes' from a topology; what is changed here is lost the next time.\n"
KUSTOMIZATION, GATEWAY_PATCH = "kustomization.yaml", "gateway.yaml"
REDIS_URL, REDIS_POLICY = "redis-url.yaml", "redis-policy.yaml"
PLACES = ("*.yaml", f"{VERIFIER}-*/*.yaml", f"{DRAFTER}-*/*.yaml")
"""Where an overlay has files."""
IMAGE = re.compile(r"[a-z0-9][a-z0-9._:/-]*:\w[\w.-]{0,100}", re.ASCII)
"""As engines for containers take it, with room for what is put behind the tag."""
API_KEYS, MODEL_CACHE = "api-keys", "model-cache"
LEAST_CEILING, CEILING_FACTOR = 8, 4
"""The autoscaler may have so many gateways at least, and so many for each that the topology has."""

Files = Mapping[PurePosixPath, str]
"""Texts by path within the overlay."""


@dataclass(frozen=True)
class Rendering:
    """What an overlay needs to know beside the topology."""

    source: str
    """The folder ``k8s`` of Paceline's source, as seen from the overlay."""
    image: str
    """``PREFIX:TAG`` of the images: ``PREFIX-gateway:TAG``, ``PREFIX-drafter:TAG-lookup`` and so on, as the targets of
    ``docker/`` are called."""
    components: Sequence[str] = ()
    """Of ``k8s/components``, beside those that the topology asks for."""

    def __post_init__(self) -> None:
        require(bool(IMAGE.fullmatch(self.image)), "image", self.image, "PREFIX:TAG, as registry.example/paceline:1.0")


def render(topology: Topology, rendering: Rendering) -> Files:
    """The overlay's files; raises ``FieldError`` for what Kubernetes cannot do."""
    topology = topology if topology.redis is not None else replace(topology, redis=EMBEDDED)  # there always is one
    check_renderable(topology)
    pools = list(workloads(topology))
    files = {KUSTOMIZATION: _kustomization(topology, rendering, pools), GATEWAY_PATCH: _gateway(topology)}
    if _is_outside(topology.redis):
        files |= {REDIS_URL: outside.url_patch(topology.redis), REDIS_POLICY: outside.policy(topology.redis)}
    texts = {PurePosixPath(name): _text(data) for name, data in files.items()}
    for pool in pools:
        texts |= {PurePosixPath(pool.full_name) / name: text for name, text in _pool(pool, rendering).items()}
    return texts


def write(files: Files, directory: Path) -> None:
    """Writes them, and removes what an earlier topology has left; raises ``FieldError`` rather than touch a file that
    was not written so, and where nothing can be written.

    Whoever is interrupted leaves an overlay that can be built, and written again.
    """
    try:
        there = _ours_in(directory)
        with every_error() as checks:
            for name in files:
                foreign = (directory / name).exists() and str(name) not in there
                expected = "no file, or one that was written by this command"
                checks.require(not foreign, "out", str(directory / name), expected)
        for name in sorted(files, key=PurePosixPath(KUSTOMIZATION).__eq__):  # what refers to the others is last
            _replace(directory / name, files[name])
        for stale in there.keys() - {str(name) for name in files}:
            _remove(there[stale])
    except OSError as error:
        expected = f"a folder that can be written to ({error.strerror})"
        raise FieldError("out", str(error.filename or directory), expected) from error


def _ours_in(directory: Path) -> dict[str, Path]:
    """Files that an earlier call has written, by name."""
    candidates = (file for place in PLACES for file in directory.glob(place))
    return {file.relative_to(directory).as_posix(): file for file in candidates if _is_ours(file)}


def _replace(file: Path, text: str) -> None:
    """At once: half a file would be taken for somebody else's the next time."""
    file.parent.mkdir(parents=True, exist_ok=True)
    new = file.with_name(f".{file.name}.new")
    new.write_text(text, encoding="utf-8")
    new.replace(file)


def _remove(file: Path) -> None:
    file.unlink()
    if not any(file.parent.iterdir()):
        file.parent.rmdir()


def source_from(directory: Path, source: Path, components: Sequence[str]) -> str:
    """The folder ``source`` as seen from ``directory``; raises ``FieldError`` unless it is what an overlay needs."""
    require((source / "base" / KUSTOMIZATION).is_file(), "source", str(source), "the folder k8s of Paceline's source")
    known = sorted(folder.name for folder in (source / "components").iterdir() if (folder / KUSTOMIZATION).is_file())
    for name in components:
        require(name in known, "with", name, f"one of {', '.join(known)}")
    return PurePosixPath(os.path.relpath(source.resolve(), directory.resolve())).as_posix()


def _kustomization(topology: Topology, rendering: Rendering, pools: Sequence[Workload]) -> dict[str, Any]:
    elsewhere = _is_outside(topology.redis)
    components = {
        API_KEYS: bool(topology.gateway.api_keys),
        MODEL_CACHE: any(pool.needs_volume for pool in pools),
        outside.COMPONENT: elsewhere,
    }
    chosen = sorted({*rendering.components, *(name for name, is_needed in components.items() if is_needed)})
    resources = [f"{rendering.source}/base", *(pool.full_name for pool in pools)]
    return {
        **_head(),
        "namespace": "paceline",
        "resources": [*resources, *([REDIS_POLICY] if elsewhere else [])],
        "components": [f"{rendering.source}/components/{name}" for name in chosen],
        "patches": [{"path": GATEWAY_PATCH}, *([{"path": REDIS_URL}] if elsewhere else [])],
        "images": [_image(rendering, "gateway")],
    }


def _is_outside(url: str | None) -> TypeGuard[str]:
    return url not in (None, EMBEDDED)


def _pool(pool: Workload, rendering: Rendering) -> dict[str, str]:
    kustomization = {
        **_head(),
        "resources": [f"../{rendering.source}/pools/{pool.service}"],
        "nameSuffix": f"-{pool.name}",
        "labels": [{"pairs": {"paceline/pool": pool.name}, "includeSelectors": True, "includeTemplates": True}],
        "configMapGenerator": [{"name": pool.service, "behavior": "replace", "files": ["settings.yaml"]}],
        "patches": [{"path": "patch.yaml"}],
        "images": [_image(rendering, pool.service, pool.flavour)],
    }
    files = {KUSTOMIZATION: kustomization, "patch.yaml": pool.patch(), "settings.yaml": pool.settings}
    return {name: _text(data) for name, data in files.items()}


def _gateway(topology: Topology) -> list[dict[str, Any]]:
    """Its ports are those of the Service; in the pods they are always the same."""
    pool = topology.gateway
    ports = [
        {"name": "http", "port": pool.http, "targetPort": "http", "appProtocol": "http"},
        {"name": "grpc", "port": pool.grpc, "targetPort": "grpc", "appProtocol": "kubernetes.io/h2c"},
        {"$patch": "replace"},  # else a port with another number would be one more
    ]
    scaler = {"minReplicas": pool.replicas, "maxReplicas": max(LEAST_CEILING, CEILING_FACTOR * pool.replicas)}
    named = {"metadata": {"name": "gateway"}}
    told = topology.telemetry.flags(gateway=True)
    env = [{"name": variable("gateway", name), "value": str(value)} for name, value in told.items()]
    template = {"spec": {"containers": [{"name": "gateway", "env": env}]}}
    return [
        {"apiVersion": "v1", "kind": "Service", **named, "spec": {"ports": ports}},
        {"apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler", **named, "spec": scaler},
        *([{"apiVersion": "apps/v1", "kind": "Deployment", **named, "spec": {"template": template}}] if env else []),
    ]


def _image(rendering: Rendering, service: str, flavour: str = "") -> dict[str, str]:
    prefix, _, tag = rendering.image.rpartition(":")
    tag = f"{tag}-{flavour}" if flavour else tag
    return {"name": f"paceline-{service}", "newName": f"{prefix}-{service}", "newTag": tag}


def _head() -> dict[str, str]:
    return {"apiVersion": "kustomize.config.k8s.io/v1beta1", "kind": "Kustomization"}


def _is_ours(file: Path) -> bool:
    return file.is_file() and file.read_text(encoding="utf-8", errors="replace").startswith(HEADER)


def _text(data: Any) -> str:
    documents = data if isinstance(data, list) else [data]
    return HEADER + yaml.safe_dump_all(documents, sort_keys=False, default_flow_style=False, width=120)
