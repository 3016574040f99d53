"""What a topology may say, and Kubernetes cannot do by what is written in ``k8s/``: each is refused by its key."""

from __future__ import annotations

import re
from pathlib import PurePosixPath

from paceline.checkpoint import EMBEDDED as EMBEDDED_PAIR
from paceline.checkpoint import HUB_ID
from paceline.cluster.kubernetes.accelerators import KNOWN, labels
from paceline.cluster.kubernetes.outside import check_outside
from paceline.cluster.local import verifiers_name
from paceline.cluster.topology import EMBEDDED, PORTS, DrafterPool, Topology, VerifierPool
from paceline.speculation.fields import Checks, every_error

MODELS = PurePosixPath("/models")
"""Where the volume with models is in every worker's container."""
NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,38}[a-z0-9])?")
"""Of a pool; with the names of its pods it must fit into a label."""
DEVICES = ("cpu", "cuda")


def check_renderable(topology: Topology) -> None:
    """Raises ``FieldError`` or ``FieldErrors``, one for each key that has no meaning there."""
    with every_error() as checks:
        _check_fleet(checks, topology)
        names = [verifiers_name(topology, model) for model in topology.models]
        for model, name in zip(topology.models, names, strict=True):
            _check_place(checks, f"models.{model.id}.target", model.target)
            if name != model.verifiers:  # several models share the pool, each has verifiers of its own
                _check_name(checks, f"models.{model.id}.id", name)
            checks.require(names.count(name) == 1, f"models.{model.id}.id", name, "a name that no other verifiers have")
        for name, verifiers in topology.verifiers.items():
            _check_pool(checks, f"verifiers.{name}", name, verifiers)
        for name, drafters in topology.drafters.items():
            _check_pool(checks, f"drafters.{name}", name, drafters)
            _check_drafters(checks, f"drafters.{name}", drafters)


def is_downloaded(reference: str) -> bool:
    """Whether it comes from a hub, rather than from the image or the volume."""
    return bool(HUB_ID.fullmatch(reference))


def _check_fleet(checks: Checks, topology: Topology) -> None:
    for key in PORTS:
        port = getattr(topology.gateway, key)
        checks.require(port > 0, f"gateway.{key}", port, "a port: on Kubernetes both have a fixed one")
    if topology.redis not in (None, EMBEDDED):
        check_outside(checks, topology.redis)
    checks.require(topology.tls is None, "tls", topology.tls, "null: not on Kubernetes yet (k8s/README.md)")


def _check_pool(checks: Checks, where: str, name: str, pool: VerifierPool | DrafterPool) -> None:
    _check_name(checks, where, name)
    checks.require(pool.cpus > 0, f"{where}.cpus", pool.cpus, "more than 0: threads are as many as a pod asks for")
    checks.require(
        pool.device in DEVICES, f"{where}.device", pool.device,
        f"one of {', '.join(DEVICES)}: a container has no other GPUs than its own",
    )  # fmt: skip
    if not pool.accelerator:
        return
    key = f"{where}.accelerator"
    checks.require(pool.device == "cuda", key, pool.accelerator, "device: cuda with it, nodes are chosen by it")
    known = labels(pool.accelerator) is not None
    checks.require(known, key, pool.accelerator, f"one of {', '.join(KNOWN)}, or a node's label such as NVIDIA-L4")


def _check_drafters(checks: Checks, where: str, pool: DrafterPool) -> None:
    for key in ("model", "tokenizer"):
        if getattr(pool, key):
            _check_place(checks, f"{where}.{key}", getattr(pool, key))
    if pool.datastore:
        below = is_on_volume(pool.datastore)
        checks.require(below, f"{where}.datastore", pool.datastore, f"a path below {MODELS}, the volume with models")
    whole = pool.device != "cuda" or pool.gpus.is_integer()
    checks.require(whole, f"{where}.gpus", pool.gpus, "a whole number: pods share no GPU")
    checks.require(not pool.snapshot, f"{where}.snapshot", pool.snapshot, "none: pods of drafters have no disk")


def _check_name(checks: Checks, where: str, name: str) -> None:
    right = bool(NAME.fullmatch(name))
    checks.require(right, where, name, "a name of at most 40 lower-case letters, digits and dashes inside")


def _check_place(checks: Checks, where: str, reference: str) -> None:
    right = reference in EMBEDDED_PAIR or is_downloaded(reference) or is_on_volume(reference)
    expected = f"a hub id, a path below {MODELS} (the volume with models), or {' or '.join(EMBEDDED_PAIR)}"
    checks.require(right, where, reference, expected)


def is_on_volume(path: str) -> bool:
    """Whether it is a path that the volume with models has."""
    return MODELS in PurePosixPath(path).parents and ".." not in PurePosixPath(path).parts
