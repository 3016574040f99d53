"""What an overlay comes to, as kubectl builds it, and how its parts refer to each other."""

from __future__ import annotations

import functools
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
K8S = ROOT / "k8s"
NAMESPACE = "paceline"
WORKLOADS = ("Deployment", "StatefulSet")

Object = dict[str, Any]
Labels = Mapping[str, str]


@functools.cache
def build(directory: Path) -> Manifests:
    """All objects of an overlay."""
    if shutil.which("kubectl") is None:
        pytest.skip("needs kubectl (kubernetes-client)")
    command = ["kubectl", "kustomize", str(directory)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert not result.stderr, result.stderr  # warnings, such as of fields that are going away
    return Manifests(tuple(yaml.safe_load_all(result.stdout)))


@dataclass(frozen=True)
class Manifests:
    objects: tuple[Object, ...]

    def of_kind(self, *kinds: str) -> list[Object]:
        return [each for each in self.objects if each["kind"] in kinds]

    def named(self, kind: str, name: str) -> Object:
        (found,) = [each for each in self.of_kind(kind) if each["metadata"]["name"] == name]
        return found

    def names(self, kind: str) -> set[str]:
        return {each["metadata"]["name"] for each in self.of_kind(kind)}

    @property
    def workloads(self) -> list[Object]:
        return self.of_kind(*WORKLOADS)

    def containers(self) -> Iterator[tuple[Object, Object]]:
        """Each with the workload that it is of."""
        for workload in self.workloads:
            for container in pod_of(workload)["containers"]:
                yield workload, container

    def settings(self, workload: Object) -> dict[str, Any]:
        """What the ConfigMap of a pool says; empty for what is no pool."""
        names = [each["configMap"]["name"] for each in pod_of(workload)["volumes"] if each["name"] == "settings"]
        texts = [self.named("ConfigMap", name)["data"]["settings.yaml"] for name in names]
        return dict(yaml.safe_load(texts[0])) if texts else {}

    def selected(self, selector: Labels) -> list[Object]:
        """The workloads whose pods have these labels."""
        return [workload for workload in self.workloads if selector.items() <= labels_of(workload).items()]


def pod_of(workload: Object) -> Object:
    return dict(workload["spec"]["template"]["spec"])


def labels_of(workload: Object) -> Labels:
    """Of its pods."""
    return dict(workload["spec"]["template"]["metadata"]["labels"])


def component_of(workload: Object) -> str:
    return labels_of(workload)["app.kubernetes.io/component"]


def port_of(container: Object, port: str | int) -> int:
    """The number of a port of the container, by name or number."""
    (found,) = [each for each in container["ports"] if port in (each["name"], each["containerPort"])]
    return int(found["containerPort"])
