"""Which nodes have the accelerator that a pool asks for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

PRODUCT = "nvidia.com/gpu.product"
"""The label that NVIDIA's feature discovery gives to nodes."""
GKE_ACCELERATOR = "cloud.google.com/gke-accelerator"
"""The label that Google's clusters give to nodes, with or without that."""
GPU = "nvidia.com/gpu"
"""The resource that a container asks for, and the taint that keeps others off such nodes."""


@dataclass(frozen=True)
class Labels:
    """What nodes with an accelerator may be labelled."""

    products: tuple[str, ...]
    gke: tuple[str, ...] = ()


KNOWN = {
    "T4": Labels(("Tesla-T4",), ("nvidia-tesla-t4",)),
    "L4": Labels(("NVIDIA-L4",), ("nvidia-l4",)),
    "L40S": Labels(("NVIDIA-L40S",)),
    "A10": Labels(("NVIDIA-A10", "NVIDIA-A10G")),
    "A100": Labels(
        ("NVIDIA-A100-SXM4-40GB", "NVIDIA-A100-SXM4-80GB", "NVIDIA-A100-PCIE-40GB", "NVIDIA-A100-80GB-PCIe"),
        ("nvidia-tesla-a100", "nvidia-a100-80gb"),
    ),
    "H100": Labels(
        ("NVIDIA-H100-80GB-HBM3", "NVIDIA-H100-PCIe", "NVIDIA-H100-NVL"),
        ("nvidia-h100-80gb", "nvidia-h100-mega-80gb"),
    ),
    "H200": Labels(("NVIDIA-H200", "NVIDIA-H200-NVL"), ("nvidia-h200-141gb",)),
    "B200": Labels(("NVIDIA-B200",), ("nvidia-b200",)),
}


def labels(accelerator: str) -> Labels | None:
    """Of nodes that have it: by its common name, or by the product's label itself; None: unknown."""
    return KNOWN.get(accelerator) or (Labels((accelerator,)) if "-" in accelerator else None)


def placement(accelerator: str) -> dict[str, Any]:
    """What a pod needs to run beside a GPU, of this kind if one is named."""
    tolerations = [{"key": GPU, "operator": "Exists", "effect": "NoSchedule"}]
    there = labels(accelerator)
    if there is None:
        return {"tolerations": tolerations}
    wanted = ((PRODUCT, there.products), (GKE_ACCELERATOR, there.gke))
    terms = [
        {"matchExpressions": [{"key": key, "operator": "In", "values": list(values)}]}
        for key, values in wanted
        if values
    ]  # one of them is enough
    affinity = {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": terms}}}
    return {"affinity": affinity, "tolerations": tolerations}
