"""The policies' graph: exactly the edges that the fleet needs, everything else is refused."""

from __future__ import annotations

import ipaddress
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pytest

from tests.k8s.manifests import NAMESPACE, Labels, Manifests, Object, component_of, labels_of

GATEWAY_GRPC, GATEWAY_HTTP, VERIFIER, DRAFTER = 50051, 8000, 50052, 50053
REDIS, COLLECTOR, METRICS, DNS, HTTPS, SSH = 6379, 4317, 9464, 53, 443, 22


@dataclass(frozen=True)
class End:
    """Who may dial or be dialled: a pod somewhere, or an address that is no pod's."""

    name: str
    namespace: str = ""
    address: str = ""
    namespace_labels: tuple[tuple[str, str], ...] = ()
    labels: tuple[tuple[str, str], ...] = ()


def elsewhere(name: str, namespace: str, labels: Labels, **namespace_labels: str) -> End:
    known = {"kubernetes.io/metadata.name": namespace} | {
        key.replace("__", "/"): value for key, value in namespace_labels.items()
    }
    return End(name, namespace, "", tuple(known.items()), tuple(labels.items()))


OUTSIDE = (
    elsewhere("client", "apps", {}, paceline__clients="allowed"),
    elsewhere("other", "apps", {}),
    elsewhere("prometheus", "monitoring", {}),
    elsewhere("collector", "telemetry", {"app.kubernetes.io/name": "opentelemetry-collector"}),
    elsewhere("dns", "kube-system", {"k8s-app": "kube-dns"}),
    elsewhere("neighbour", NAMESPACE, {"app": "neighbour"}),
    End("internet", address="203.0.113.7"),
    End("internet six", address="2001:db8::7"),
    End("node's dns", address="169.254.20.10"),
    End("metadata", address="169.254.169.254"),
    End("next door", address="10.1.2.3"),
)


def inside(manifests: Manifests) -> list[End]:
    """A pod of each workload."""
    return [elsewhere(each["metadata"]["name"], NAMESPACE, labels_of(each)) for each in manifests.workloads]


def matches(selector: Object, labels: Labels) -> bool:
    assert selector.keys() <= {"matchLabels", "matchExpressions"}
    for wanted in selector.get("matchExpressions", []):
        assert wanted["operator"] == "In"
        if labels.get(wanted["key"]) not in wanted["values"]:
            return False
    return bool(selector.get("matchLabels", {}).items() <= labels.items())


def is_within(address: str, blocks: Sequence[str], apart_from: Sequence[str]) -> bool:
    there = ipaddress.ip_address(address)
    taken, left_out = (
        any(there in network for network in map(ipaddress.ip_network, some) if network.version == there.version)
        for some in (blocks, apart_from)
    )
    return taken and not left_out


def is_peer(peer: Object, end: End) -> bool:
    if "ipBlock" in peer:
        block = peer["ipBlock"]
        return bool(end.address) and is_within(end.address, [block["cidr"]], block.get("except", []))
    if end.address:
        return False
    if "namespaceSelector" in peer:
        here = matches(peer["namespaceSelector"], dict(end.namespace_labels))
    else:
        here = end.namespace == NAMESPACE
    return here and matches(peer.get("podSelector", {}), dict(end.labels))


def lets(manifests: Manifests, end: End, direction: str, other: End, port: int) -> bool:
    """Whether the policies for a pod let it through in this direction; there are none elsewhere."""
    if end.namespace != NAMESPACE:
        return True
    side = {"Ingress": "from", "Egress": "to"}[direction]
    policies = [
        policy["spec"]
        for policy in manifests.of_kind("NetworkPolicy")
        if direction in policy["spec"]["policyTypes"] and matches(policy["spec"]["podSelector"], dict(end.labels))
    ]
    assert policies, "the one that refuses everything is for all"
    rules: Iterator[Any] = itertools.chain.from_iterable(policy.get(direction.lower(), []) for policy in policies)
    return any(
        any(is_peer(peer, other) for peer in rule[side]) and port in [each["port"] for each in rule["ports"]]
        for rule in rules
    )


def ports(manifests: Manifests) -> set[int]:
    """All that are spoken of, and one that is not."""
    rules = [
        rule
        for policy in manifests.of_kind("NetworkPolicy")
        for rule in (*policy["spec"].get("ingress", []), *policy["spec"].get("egress", []))
    ]
    return {port["port"] for rule in rules for port in rule["ports"]} | {SSH}


def edges(manifests: Manifests) -> set[tuple[str, str, int]]:
    """Who reaches whom at which port, one end at least being of the fleet."""
    ours = inside(manifests)
    every = [*ours, *OUTSIDE]
    return {
        (source.name, target.name, port)
        for source, target, port in itertools.product(every, every, ports(manifests))
        if (source in ours or target in ours) and source != target
        if lets(manifests, source, "Egress", target, port) and lets(manifests, target, "Ingress", source, port)
    }


def needed(manifests: Manifests) -> set[tuple[str, str, int]]:
    of: dict[str, list[str]] = {}
    for workload in manifests.workloads:
        of.setdefault(component_of(workload), []).append(workload["metadata"]["name"])
    workers = [*of["gateway"], *of["verifier"], *of["drafter"]]
    downloading = [each["metadata"]["name"] for each in manifests.workloads if "paceline/models" in labels_of(each)]
    scraped = [("gateway", GATEWAY_HTTP), *((name, METRICS) for name in of["verifier"] + of["drafter"])]
    monitored = {("prometheus", *each) for each in scraped} if manifests.of_kind("PodMonitor") else set()
    return {
        ("client", "gateway", GATEWAY_GRPC),
        ("client", "gateway", GATEWAY_HTTP),
        *monitored,
        *((source, target, VERIFIER) for source in of["gateway"] + of["drafter"] for target in of["verifier"]),
        *((source, target, DRAFTER) for source in of["gateway"] for target in of["drafter"]),
        *((source, target, REDIS) for source in workers for target in of["redis"]),
        *((source, "collector", COLLECTOR) for source in workers),
        *((source, dns, DNS) for source in [*workers, *of["redis"]] for dns in ("dns", "node's dns")),
        *((source, target, HTTPS) for source in downloading for target in ("internet", "internet six")),
    }


def test_exactly_the_edges_that_are_needed(manifests: Manifests) -> None:
    assert edges(manifests) == needed(manifests)


@pytest.mark.parametrize("direction", ["Ingress", "Egress"])
def test_what_is_not_said_is_refused(manifests: Manifests, direction: str) -> None:
    """Also for pods that nobody has thought of."""
    refusing = [
        policy["spec"]
        for policy in manifests.of_kind("NetworkPolicy")
        if policy["spec"]["podSelector"] == {} and direction in policy["spec"]["policyTypes"]
    ]
    assert any(direction.lower() not in policy for policy in refusing)


def test_only_pods_that_download_are_labelled_so(manifests: Manifests) -> None:
    for workload in manifests.workloads:
        downloads = labels_of(workload).get("paceline/models") == "hub"
        loads = [manifests.settings(workload).get(key, "") for key in ("target", "model", "tokenizer")]
        assert downloads is any("/" in each and not each.startswith("/") for each in loads)
