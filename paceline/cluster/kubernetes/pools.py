"""The workloads of a topology: each pool as a patch of the one in ``k8s/pools``."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from paceline.cluster.announcing import DRAFTER, VERIFIER
from paceline.cluster.kubernetes.accelerators import GPU, placement
from paceline.cluster.kubernetes.refusals import is_downloaded, is_on_volume
from paceline.cluster.local import FLEETS_DRAFTER_KEYS, FLEETS_VERIFIER_KEYS, set_values, verifiers_name
from paceline.cluster.topology import MODEL_KINDS, DrafterPool, Topology, VerifierPool

GPU_RESOURCES = {
    VERIFIER: {"requests": {"cpu": "4", "memory": "32Gi"}, "limits": {"memory": "96Gi"}},
    DRAFTER: {"requests": {"cpu": "2", "memory": "8Gi"}, "limits": {"memory": "16Gi"}},
}
"""What a worker asks for beside its GPUs; those without keep what ``k8s/pools`` says."""
DOWNLOADS = {"paceline/models": "hub"}
"""The label by which the policy in ``k8s/base`` lets a pod reach the internet."""


@dataclass(frozen=True)
class Workload:
    """Workers that are all alike."""

    service: str
    name: str
    pool: VerifierPool | DrafterPool
    settings: dict[str, Any]
    """As the service takes them with ``--config``."""

    @property
    def full_name(self) -> str:
        """Of the folder, and of what Kubernetes runs."""
        return f"{self.service}-{self.name}"

    @property
    def _references(self) -> list[str]:
        """Where what it loads comes from; a verifier's ``model`` is but a name."""
        keys = ("model", "tokenizer", "datastore") if self.service == DRAFTER else ("target",)
        return [str(self.settings.get(key, "")) for key in keys]

    @property
    def needs_volume(self) -> bool:
        """Whether it looks for something on the volume with models, which must then be there before."""
        return any(map(is_on_volume, self._references))

    @property
    def flavour(self) -> str:
        """The target of its Dockerfile: with torch for GPUs, for processors, or without torch."""
        if self.pool.device == "cuda":
            return "gpu"
        light = isinstance(self.pool, DrafterPool) and self.pool.kind not in MODEL_KINDS
        return "lookup" if light else "cpu"

    @property
    def _resources(self) -> dict[str, Any]:
        """What it asks for otherwise than the one in ``k8s/pools``."""
        asked: dict[str, Any] = copy.deepcopy(GPU_RESOURCES[self.service]) if self.pool.device == "cuda" else {}
        if asked:
            asked["limits"][GPU] = int(self.pool.gpus) if isinstance(self.pool, DrafterPool) else 1
        if self.pool.cpus != type(self.pool).cpus:
            asked.setdefault("requests", {})["cpu"] = f"{self.pool.cpus:g}"
        return asked

    def patch(self) -> dict[str, Any]:
        """What this pool has otherwise than the one in ``k8s/pools``."""
        cuda = self.pool.device == "cuda"
        downloads = any(map(is_downloaded, self._references))
        container = {"name": self.service} | ({"resources": self._resources} if self._resources else {})
        pod = {**(placement(self.pool.accelerator) if cuda else {}), "containers": [container]}
        template = {**({"metadata": {"labels": DOWNLOADS}} if downloads else {}), "spec": pod}
        return {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": {"name": self.service},
            "spec": {"replicas": self.pool.replicas, "template": template},
        }


def workloads(topology: Topology) -> Iterator[Workload]:
    """Verifiers for each model, then the drafters that models name, each pool once for all its models."""
    models: dict[str, list[str]] = {}
    common = topology.telemetry.flags(gateway=False)
    for model in topology.models:
        pool = topology.verifiers[model.verifiers]
        settings = {"target": model.target, "model": model.id, **set_values(pool, FLEETS_VERIFIER_KEYS), **common}
        yield Workload(VERIFIER, verifiers_name(topology, model), pool, settings)
        for name in model.drafters:
            models.setdefault(name, []).append(model.id)
    for name, served in models.items():
        drafters = topology.drafters[name]
        settings = {**set_values(drafters, FLEETS_DRAFTER_KEYS), "models": served, **common}
        yield Workload(DRAFTER, name, drafters, settings)
