"""What every overlay promises: valid objects that refer to each other, probed, confined and bounded."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import pytest
import yaml

from drafter_service.config import DrafterConfig
from gateway.config import GatewayConfig
from paceline.cluster.kubernetes.accelerators import GKE_ACCELERATOR, GPU, PRODUCT
from paceline.embedded import TARGET
from paceline.settings import resolve
from tests.k8s.manifests import (
    K8S,
    NAMESPACE,
    ROOT,
    Manifests,
    Object,
    build,
    component_of,
    labels_of,
    pod_of,
    port_of,
)
from tests.k8s.pods import Cluster
from tests.k8s.test_network import matches
from verifier_service.config import VerifierConfig

OLDEST, NEWEST = "1.30", kubernetes_validate.latest_version()
SCHEMAS = Path(__file__).parent / "schemas"
CUSTOM = {"PodMonitor": SCHEMAS / "podmonitor.json", "PrometheusRule": SCHEMAS / "prometheusrule.json"}
CLUSTER_WIDE = ("Namespace",)
CONFIGS: dict[str, type[Any]] = {"gateway": GatewayConfig, "verifier": VerifierConfig, "drafter": DrafterConfig}


@pytest.mark.parametrize("version", [OLDEST, NEWEST])
def test_every_object_is_valid(manifests: Manifests, version: str) -> None:
    for each in manifests.objects:
        if each["kind"] in CUSTOM:
            jsonschema.validate(each, json.loads(CUSTOM[each["kind"]].read_text()))
        else:
            kubernetes_validate.validate(each, version, strict=True)


def test_all_is_in_one_namespace(manifests: Manifests) -> None:
    assert manifests.names("Namespace") == {NAMESPACE}
    for each in manifests.objects:
        assert each["kind"] in CLUSTER_WIDE or each["metadata"]["namespace"] == NAMESPACE


def test_each_selector_means_one_workload(manifests: Manifests) -> None:
    for workload in manifests.workloads:
        assert manifests.selected(workload["spec"]["selector"]["matchLabels"]) == [workload]
    for each in manifests.of_kind("Service"):
        assert len(manifests.selected(each["spec"]["selector"])) == 1, each["metadata"]["name"]
    for each in manifests.of_kind("PodDisruptionBudget"):
        assert len(manifests.selected(each["spec"]["selector"]["matchLabels"])) == 1, each["metadata"]["name"]
    for each in manifests.of_kind("PodMonitor"):  # one for all pools of a kind
        chosen = manifests.selected(each["spec"]["selector"]["matchLabels"])
        assert {component_of(workload) for workload in chosen} == {each["metadata"]["name"]}
    for workload in manifests.workloads:
        for spread in pod_of(workload).get("topologySpreadConstraints", []):
            assert manifests.selected(spread["labelSelector"]["matchLabels"]) == [workload]


def test_who_can_be_spared_has_a_budget_and_is_spread(manifests: Manifests) -> None:
    budgets = [each["spec"]["selector"]["matchLabels"] for each in manifests.of_kind("PodDisruptionBudget")]
    for workload in manifests.workloads:
        if component_of(workload) != "redis":
            assert any(budget.items() <= labels_of(workload).items() for budget in budgets)
            assert pod_of(workload)["topologySpreadConstraints"]


def test_services_lead_to_named_ports(manifests: Manifests) -> None:
    for service in manifests.of_kind("Service"):
        (workload,) = manifests.selected(service["spec"]["selector"])
        (container,) = pod_of(workload)["containers"]
        for port in service["spec"]["ports"]:
            assert port["name"] == port["targetPort"]
            assert port_of(container, port["targetPort"])
    for workload in manifests.of_kind("StatefulSet"):
        service = manifests.named("Service", workload["spec"]["serviceName"])
        assert service["spec"]["clusterIP"] == "None"
        assert manifests.selected(service["spec"]["selector"]) == [workload]
    for monitor in manifests.of_kind("PodMonitor"):
        for workload in manifests.selected(monitor["spec"]["selector"]["matchLabels"]):
            for endpoint in monitor["spec"]["podMetricsEndpoints"]:
                assert port_of(pod_of(workload)["containers"][0], endpoint["port"])


def test_the_base_needs_no_overlay_for_that() -> None:
    """Overlays give the gateway ports of their own."""
    test_services_lead_to_named_ports(build(K8S / "base"))


PROBES = {"gateway": "httpGet", "verifier": "grpc", "drafter": "grpc", "redis": "tcpSocket"}


def test_everything_is_probed_at_a_port_that_it_has(manifests: Manifests) -> None:
    for workload, container in manifests.containers():
        for name in ("startupProbe", "readinessProbe", "livenessProbe"):
            asked = container[name][PROBES[component_of(workload)]]
            assert port_of(container, asked["port"]), name


def test_images_have_exact_versions(manifests: Manifests) -> None:
    for _, container in manifests.containers():
        _, _, tag = container["image"].rpartition(":")
        assert re.match(r"\d", tag), container["image"]


def test_versions_stand_in_one_place() -> None:
    """``images`` of the kustomizations: what is written of containers has a name only."""
    for file in [*K8S.glob("base/*.yaml"), *K8S.glob("pools/*/*.yaml"), *K8S.glob("components/*/*.yaml")]:
        for image in re.findall(r"^\s*(?:- )?image: (.*)$", file.read_text(), re.MULTILINE):
            assert ":" not in image, file


def test_a_laptop_has_the_same_redis() -> None:
    compose = (ROOT / "docker" / "compose.yaml").read_text()
    (container,) = pod_of(build(K8S / "base").named("StatefulSet", "redis"))["containers"]
    assert f"${{REDIS_IMAGE:-{container['image']}}}" in compose


def test_everything_has_its_share_and_no_more(manifests: Manifests) -> None:
    for workload, container in manifests.containers():
        resources, pod = container["resources"], pod_of(workload)
        assert {"cpu", "memory"} <= resources["requests"].keys()
        assert "memory" in resources["limits"]
        has_gpu = manifests.settings(workload).get("device") == "cuda"
        assert resources["limits"].get(GPU, 0) == int(has_gpu)
        tolerated = [toleration["key"] for toleration in pod.get("tolerations", [])]
        assert (GPU in tolerated) is has_gpu, "others have no business on such nodes"
        if has_gpu:
            required = pod["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
            terms = [term["matchExpressions"] for term in required["nodeSelectorTerms"]]
            assert [expression["key"] for (expression,) in terms] == [PRODUCT, GKE_ACCELERATOR]
            assert container["image"].endswith("-gpu")


def test_drafters_draft_for_the_models_that_are_served(manifests: Manifests) -> None:
    served = {manifests.settings(each)["model"] for each in manifests.workloads if component_of(each) == "verifier"}
    for each in manifests.workloads:
        if component_of(each) == "drafter":
            models = manifests.settings(each)["models"]
            assert models
            assert set(models) <= served


@pytest.mark.parametrize("name", ["local-cpu", "l4-drafters-h100-verifier"])
def test_drafters_draft_for_the_models_that_name_them(name: str) -> None:
    """As the topology beside the overlay says, read by nobody else."""
    topology = yaml.safe_load((K8S / "overlays" / name / "topology.yaml").read_text())
    wanted = {
        f"drafter-{pool}": [model["id"] for model in topology["models"] if pool in model["drafters"]]
        for pool in topology["drafters"]
    }
    manifests = build(K8S / "overlays" / name)
    drafters = [each for each in manifests.workloads if component_of(each) == "drafter"]
    assert {each["metadata"]["name"]: manifests.settings(each)["models"] for each in drafters} == wanted


def test_drafters_are_drawn_to_the_zones_of_verifiers(manifests: Manifests) -> None:
    verifiers = {each["metadata"]["name"] for each in manifests.workloads if component_of(each) == "verifier"}
    for workload in manifests.workloads:
        if component_of(workload) != "drafter":
            continue
        (drawn,) = pod_of(workload)["affinity"]["podAffinity"]["preferredDuringSchedulingIgnoredDuringExecution"]
        term = drawn["podAffinityTerm"]
        assert term["topologyKey"] == "topology.kubernetes.io/zone"
        near = [each for each in manifests.workloads if matches(term["labelSelector"], labels_of(each))]
        assert {each["metadata"]["name"] for each in near} == verifiers


def test_everything_is_confined(manifests: Manifests) -> None:
    for workload, container in manifests.containers():
        pod, security = pod_of(workload), container["securityContext"]
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["runAsUser"] > 0
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert pod["securityContext"].get("fsGroupChangePolicy") == (
            None if component_of(workload) == "gateway" else "OnRootMismatch"
        ), "what is on a volume is many files"
        assert pod["automountServiceAccountToken"] is False
        assert pod["enableServiceLinks"] is False
        assert security["readOnlyRootFilesystem"] is True
        assert security["allowPrivilegeEscalation"] is False
        assert security["capabilities"] == {"drop": ["ALL"]}
        assert manifests.named("ServiceAccount", pod["serviceAccountName"])["automountServiceAccountToken"] is False


def test_what_is_referred_to_is_there_or_explained(manifests: Manifests) -> None:
    explained = set(re.findall(r"Secret `([a-z-]+)`", (K8S / "README.md").read_text()))
    for workload, container in manifests.containers():
        claims = [claim["metadata"]["name"] for claim in workload["spec"].get("volumeClaimTemplates", [])]
        volumes = {volume["name"]: volume for volume in pod_of(workload)["volumes"]}
        assert {mount["name"] for mount in container["volumeMounts"]} == volumes.keys() | set(claims)
        sources = [*container.get("envFrom", []), *volumes.values()]
        for source in sources:
            if named := source.get("configMapRef") or source.get("configMap"):
                assert named["name"] in manifests.names("ConfigMap")
            if claim := source.get("persistentVolumeClaim"):
                assert claim["claimName"] in manifests.names("PersistentVolumeClaim")
            if secret := source.get("secretRef") or source.get("secret"):
                assert secret.get("name", secret.get("secretName")) in explained
    scaler = manifests.named("HorizontalPodAutoscaler", "gateway")["spec"]
    assert scaler["scaleTargetRef"]["name"] in manifests.names("Deployment")
    assert "replicas" not in manifests.named("Deployment", "gateway")["spec"], "the autoscaler's to say"


def test_who_ends_has_time_to_finish(manifests: Manifests, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for workload, container in manifests.containers():
        service = component_of(workload)
        if service in CONFIGS:
            hook = container.get("lifecycle", {}).get("preStop", {}).get("sleep", {}).get("seconds", 0)
            drain = config_of(manifests, workload, tmp_path, monkeypatch).drain_seconds
            assert pod_of(workload)["terminationGracePeriodSeconds"] >= hook + drain + 5


def test_services_take_their_settings(manifests: Manifests, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for workload in manifests.workloads:
        service = component_of(workload)
        if service in CONFIGS:
            config = config_of(manifests, workload, tmp_path, monkeypatch)
            (container,) = pod_of(workload)["containers"]
            assert port_of(container, config.port)
            assert config.redis
            for key, value in manifests.settings(workload).items():
                taken = getattr(config, key)
                assert (list(taken) if isinstance(taken, tuple) else taken) == value or str(taken) == value


def config_of(manifests: Manifests, workload: Object, directory: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """What its service makes of command line, environment and file."""
    service = component_of(workload)
    with monkeypatch.context() as there:
        cluster = Cluster(manifests, directory)
        pod = cluster.pods_of(workload)[0]
        for name, value in pod.environment.items():
            there.setenv(name, value)
        there.setattr("paceline.checkpoint.located", lambda _: TARGET)  # the volume with models is not here
        return resolve(CONFIGS[service], pod.words[3:], service, service).config


def test_spot_is_the_same_fleet_elsewhere() -> None:
    """Drafters go where machines are cheap, and nothing else is otherwise."""
    plain, spot = (build(K8S / "overlays" / name) for name in ("l4-drafters-h100-verifier", "spot-drafters"))
    assert [each["metadata"] for each in plain.objects] == [each["metadata"] for each in spot.objects]
    for before, after in zip(plain.objects, spot.objects, strict=True):
        if before["kind"] != "Deployment" or component_of(before) != "drafter":
            assert before == after
            continue
        pod = pod_of(after)
        kept = pod_of(before).get("tolerations", [])
        assert pod["tolerations"][: len(kept)] == kept
        added = pod["tolerations"][len(kept) :]
        assert added
        assert all(re.search("spot|karpenter|scalesetpriority", toleration["key"]) for toleration in added)
        required = "requiredDuringSchedulingIgnoredDuringExecution"
        affinity = pod_of(before).get("affinity", {}).get("nodeAffinity", {})
        assert pod["affinity"]["nodeAffinity"].get(required) == affinity.get(required)
