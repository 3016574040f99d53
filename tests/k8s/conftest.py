"""The overlays that are kept with the source, and one that is rendered from a topology with a bit of everything."""

from __future__ import annotations

from pathlib import Path

import pytest

from paceline.cluster.kubernetes.overlay import Rendering, render, source_from, write
from paceline.cluster.topology import Topology, parse_topology
from tests.k8s.manifests import K8S, Manifests, build

OVERLAYS = ("local-cpu", "l4-drafters-h100-verifier", "spot-drafters")
RENDERED = "rendered"


def many_pools() -> Topology:
    """Two models that share a pool of verifiers and a drafter, paths on the volume, other ports, and keys."""
    return parse_topology(
        {
            "models": [
                {"id": "one", "target": "some/target", "verifiers": "big", "drafters": ["small", "store"]},
                {"id": "two", "target": "/models/two", "verifiers": "big", "drafters": ["small"]},
            ],
            "verifiers": {"big": {"replicas": 2, "device": "cuda", "accelerator": "H100", "price_per_hour": 7}},
            "drafters": {
                "small": {"kind": "model", "model": "some/draft", "replicas": 3, "emulate_link": "rtt=5ms"},
                "store": {"kind": "datastore", "datastore": "/models/store", "tokenizer": "some/target"},
            },
            "gateway": {"http": 80, "grpc": 443, "replicas": 3, "api_keys": "keys.yaml"},
        }
    )


@pytest.fixture(scope="session")
def rendered(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("overlay")
    components = ["monitoring"]
    rendering = Rendering(source_from(directory, K8S, components), "registry.example/team/paceline:7", components)
    write(render(many_pools(), rendering), directory)
    return directory


@pytest.fixture(scope="session", params=[*OVERLAYS, RENDERED])
def manifests(request: pytest.FixtureRequest, rendered: Path) -> Manifests:
    return build(rendered if request.param == RENDERED else K8S / "overlays" / request.param)
