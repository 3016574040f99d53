"""The device that an engine computes on."""

from __future__ import annotations

import torch

from paceline.errors import FieldError


def find_device(name: str) -> torch.device:
    """Raises ``FieldError`` unless this machine has the device, by torch's name for it."""
    here = ["cpu"]
    accelerator = torch.accelerator.current_accelerator(check_available=True)
    if accelerator is not None:
        numbered = [f"{accelerator.type}:{index}" for index in range(torch.accelerator.device_count())]
        here += [accelerator.type, *numbered]
    if name not in here:
        raise FieldError("device", name, f"a device of this machine: {', '.join(here)}")
    if name != "cpu":
        _prepare_nothing_by_shape()
    return torch.device(name)


def device_name(device: torch.device) -> str:
    """What the hardware is called, for fingerprints and reports."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


def _prepare_nothing_by_shape() -> None:
    """Our shapes change at every step; kernels or plans that are made for a shape when it is first seen would stall it.

    On CUDA TorchScript fuses that way, and then rounds otherwise than before; cuDNN's attention takes some tenths of a
    second for each shape. What remains, PyTorch's own kernels, takes any.
    """
    torch.jit.set_fusion_strategy([])
    torch.backends.cuda.enable_cudnn_sdp(enabled=False)
