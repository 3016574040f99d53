"""Which nodes have the accelerator that a pool asks for."""

from __future__ import annotations

from typing import Any

PRODUCT = "nvidia.com/gpu.product"
"""The label that NVIDIA's feature discovery gives to nodes."""
GPU = "nvidia.com/gpu"
"""The resource that a container asks for, and the taint that keeps others off such nodes."""
PRODUCTS = {
    "T4": ("Tesla-T4",),
    "L4": ("NVIDIA-L4",),
    "L40S": ("NVIDIA-L40S",),
    "A10": ("NVIDIA-A10", "NVIDIA-A10G"),
    "A100": ("NVIDIA-A100-SXM4-40GB", "NVIDIA-A100-SXM4-80GB", "NVIDIA-A100-PCIE-40GB", "NVIDIA-A100-80GB-PCIe"),
    "H100": ("NVIDIA-H100-80GB-HBM3", "NVIDIA-H100-PCIe", "NVIDIA-H100-NVL"),
    "H200": ("NVIDIA-H200", "NVIDIA-H200-NVL"),
    "B200": ("NVIDIA-B200",),
}
"""What nodes with an accelerator may be labelled."""


def products(accelerator: str) -> tuple[str, ...]:
    """Labels of nodes that have it: by its common name, or the label itself; none: unknown."""
    return PRODUCTS.get(accelerator, (accelerator,) if "-" in accelerator else ())


def placement(accelerator: str) -> dict[str, Any]:
    """What a pod needs to run beside a GPU, of this kind if one is named."""
    tolerations = [{"key": GPU, "operator": "Exists", "effect": "NoSchedule"}]
    if not accelerator:
        return {"tolerations": tolerations}
    wanted = [{"key": PRODUCT, "operator": "In", "values": list(products(accelerator))}]
    terms = {"nodeSelectorTerms": [{"matchExpressions": wanted}]}
    affinity = {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": terms}}
    return {"affinity": affinity, "tolerations": tolerations}
