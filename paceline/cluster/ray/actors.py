"""Starting, finding and ending the actors of a fleet's workers."""

from __future__ import annotations

import contextlib
from collections import defaultdict
from collections.abc import Iterable
from typing import Any

import ray
from ray.exceptions import RayError
from ray.util.placement_group import PlacementGroup, placement_group, remove_placement_group
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from paceline.cluster.ray.host import WorkerHost
from paceline.cluster.ray.needs import LABEL, Needs, Offer
from paceline.cluster.ray.spec import WorkerSpec

NAMESPACE = "paceline"
ANSWER_SECONDS = 5.0
CALLS = 4
"""That an actor answers at a time: who drains still says how it is."""


def start(spec: WorkerSpec, tls: str | None, *, insecure: bool) -> Any:
    """The handle of a new actor, which waits for a place; raises ``ValueError`` while another one has its name."""
    needs = spec.needs
    options: dict[str, Any] = {"num_cpus": needs.cpus, "num_gpus": needs.gpus, "max_concurrency": CALLS}
    # Never a second time what may have ended the actor: whoever asks, asks again.
    options |= {"max_restarts": -1, "max_task_retries": 0}
    options |= {"name": spec.key, "namespace": NAMESPACE, "lifetime": "detached"}
    if needs.together:
        options["scheduling_strategy"] = PlacementGroupSchedulingStrategy(_group(spec.key, needs))
    else:
        options["label_selector"] = needs.labels
    actor: Any = ray.remote(WorkerHost)
    return actor.options(**options).remote(spec, tls, insecure=insecure)


def running() -> list[tuple[WorkerSpec, Any]]:
    """All workers of the fleet, with handles. One that cannot say what it is, since it has no place or is just being
    started again, is ended instead."""
    found = list[tuple[WorkerSpec, Any]]()
    for key in ray.util.list_named_actors():
        if "/" not in key:
            continue
        handle: Any = ray.get_actor(key, NAMESPACE)
        try:
            found.append((ray.get(handle.spec.remote(), timeout=ANSWER_SECONDS), handle))
        except RayError:
            _kill(handle, key)
    return found


def end(handle: Any, spec: WorkerSpec) -> None:
    """At once and for good, with what was reserved for it."""
    _kill(handle, spec.key)


def offers(leaving: Iterable[tuple[str, Needs]] = ()) -> list[Offer]:
    """What the cluster's nodes have left once those who leave are gone: the ids of their nodes, and what they have."""
    state: Any = ray._private.state  # noqa: SLF001 - by node nobody else says it
    free, nodes = state.available_resources_per_node(), state.nodes()
    freed = defaultdict[str, list[Needs]](list)
    for node_id, needs in leaving:
        freed[node_id].append(needs)
    found = list[Offer]()
    for node in nodes:
        if node["Alive"] and (left := free.get(node["NodeID"])):
            gone = freed[node["NodeID"]]
            cpus = left.get("CPU", 0.0) + sum(needs.cpus for needs in gone)
            gpus = left.get("GPU", 0.0) + sum(needs.gpus for needs in gone)
            found.append(Offer(cpus, gpus, node["Labels"].get(LABEL, "")))
    return found


def _kill(handle: Any, key: str) -> None:
    ray.kill(handle, no_restart=True)
    with contextlib.suppress(ValueError):  # most have reserved nothing
        remove_placement_group(ray.util.get_placement_group(key))


def _group(name: str, needs: Needs) -> PlacementGroup:
    """One bundle: the actor hands its GPUs to the processes of its service. There is one already when the name of an
    actor was not free yet after it was made."""
    with contextlib.suppress(ValueError):
        found: PlacementGroup = ray.util.get_placement_group(name)
        return found
    bundle = {"CPU": needs.cpus, "GPU": needs.gpus}
    labels = [needs.labels]
    group: PlacementGroup = placement_group(
        [bundle], strategy="STRICT_PACK", name=name, lifetime="detached", bundle_label_selector=labels
    )
    return group
