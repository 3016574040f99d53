"""``paceline render kubernetes``: the same overlay for the same topology, and no word of it ignored."""

from __future__ import annotations

import contextlib
import itertools
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from paceline.cli.render import render as render_command
from paceline.cluster.kubernetes.accelerators import GPU
from paceline.cluster.kubernetes.overlay import HEADER, Files, Rendering, render, source_from, write
from paceline.cluster.topology import parse_topology, read_topology
from paceline.speculation.fields import FieldError
from tests.k8s.conftest import many_pools
from tests.k8s.manifests import K8S, build, labels_of, pod_of
from tests.k8s.test_network import edges

PLAIN = Rendering("../../k8s", "paceline:1")
MINIMAL: dict[str, Any] = {
    "models": [{"id": "m", "target": "embedded:target", "verifiers": "big", "drafters": ["small"]}],
    "verifiers": {"big": {}},
    "drafters": {"small": {"kind": "ngram"}},
}


@pytest.mark.parametrize(
    ("name", "components"), [("local-cpu", []), ("l4-drafters-h100-verifier", ["model-cache", "monitoring"])]
)
def test_overlays_are_what_their_topologies_say(name: str, components: list[str]) -> None:
    """If not: paceline render kubernetes k8s/overlays/NAME/topology.yaml -o k8s/overlays/NAME [--with COMPONENT]."""
    directory = K8S / "overlays" / name
    rendering = Rendering(source_from(directory, K8S, components), "paceline:0.1.0", components)
    files = render(read_topology(directory / "topology.yaml"), rendering)
    there = {file.relative_to(directory).as_posix() for file in directory.rglob("*.yaml")} - {"topology.yaml"}
    assert there == {str(path) for path in files}
    for path, text in files.items():
        assert (directory / path).read_text() == text, path


def test_each_pool_has_its_own_patch(rendered: Path) -> None:
    manifests = build(rendered)
    replicas = {each["metadata"]["name"]: each["spec"].get("replicas") for each in manifests.workloads}
    assert replicas == {
        "gateway": None, "redis": 1, "verifier-big-one": 2, "verifier-big-two": 2, "drafter-small": 3,
        "drafter-store": 1,
    }  # fmt: skip
    settings = {each["metadata"]["name"]: manifests.settings(each) for each in manifests.workloads}
    small = settings["drafter-small"]
    assert small == {"kind": "model", "model": "some/draft", "emulate_link": "rtt=5ms", "models": ["one", "two"]}
    assert settings["drafter-store"]["models"] == ["one"]
    two = settings["verifier-big-two"]
    assert (two["target"], two["model"], two["device"]) == ("/models/two", "two", "cuda")
    images = {each["metadata"]["name"]: pod_of(each)["containers"][0]["image"] for each in manifests.workloads}
    assert images["gateway"] == "registry.example/team/paceline-gateway:7"
    assert images["verifier-big-one"] == "registry.example/team/paceline-verifier:7-gpu"
    assert images["drafter-small"] == "registry.example/team/paceline-drafter:7-cpu"
    assert images["drafter-store"] == "registry.example/team/paceline-drafter:7-lookup"


def test_what_the_topology_says_of_the_gateway(rendered: Path) -> None:
    manifests = build(rendered)
    ports = manifests.named("Service", "gateway")["spec"]["ports"]
    assert [(port["name"], port["port"]) for port in ports] == [("http", 80), ("grpc", 443)]
    scaler = manifests.named("HorizontalPodAutoscaler", "gateway")["spec"]
    assert (scaler["minReplicas"], scaler["maxReplicas"]) == (3, 12)
    (container,) = pod_of(manifests.named("Deployment", "gateway"))["containers"]
    assert {"name": "PACELINE_GATEWAY_API_KEYS", "value": "/etc/paceline/keys.yaml"} in container["env"]


def test_models_on_the_volume_bring_the_volume(rendered: Path) -> None:
    manifests = build(rendered)
    assert manifests.names("PersistentVolumeClaim") == {"models"}
    for workload in manifests.workloads:
        if "paceline/pool" in labels_of(workload):
            assert {"name": "models", "persistentVolumeClaim": {"claimName": "models"}} in pod_of(workload)["volumes"]


def test_what_a_pool_asks_for_is_what_its_pods_ask_for(tmp_path: Path) -> None:
    wide = {"kind": "model", "model": "a/b", "device": "cuda", "gpus": 2, "cpus": 6}
    data = {**MINIMAL, "verifiers": {"big": {"cpus": 0.5}}, "drafters": {"small": wide}}
    write(render(parse_topology(data), Rendering(source_from(tmp_path, K8S, []), "paceline:1")), tmp_path)
    asked = {each["metadata"]["name"]: pod_of(each)["containers"][0]["resources"] for each in build(tmp_path).workloads}
    assert asked["verifier-big"]["requests"] == {"cpu": "0.5", "memory": "2Gi"}
    assert asked["drafter-small"]["requests"]["cpu"] == "6"
    assert asked["drafter-small"]["limits"][GPU] == 2


def test_new_settings_start_new_pods(tmp_path: Path) -> None:
    """The name of a pool's ConfigMap, which the pods refer to, comes from what it says."""
    names = []
    for index, kind in enumerate(("ngram", "recycling")):
        directory = tmp_path / str(index)
        data = {**MINIMAL, "drafters": {"small": {"kind": kind}}}
        source = source_from(directory, K8S, [])
        write(render(parse_topology(data), Rendering(source, "paceline:1")), directory)
        names.append({name for name in build(directory).names("ConfigMap") if name.startswith("drafter-small-")})
    assert names[0].isdisjoint(names[1])


def test_the_same_topology_is_the_same_text() -> None:
    assert render(many_pools(), PLAIN) == render(many_pools(), PLAIN)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"gateway": {"http": -1}}, "gateway.http = -1: expected a port"),
        ({"gateway": {"grpc": 0}}, "gateway.grpc = 0: expected a port"),
        ({"redis": "unix:///redis.sock"}, "redis = 'unix:///redis.sock': expected redis:// or rediss://"),
        ({"redis": "rediss://me:hidden@elsewhere"}, "expected no password in manifests"),
        ({"tls": "certs"}, "tls = 'certs': expected null"),
        ({"verifiers": {"big": {"device": "cuda:1"}}}, "verifiers.big.device = 'cuda:1': expected one of cpu, cuda"),
        ({"verifiers": {"big": {"accelerator": "H100"}}}, "verifiers.big.accelerator = 'H100': expected device: cuda"),
        (
            {"verifiers": {"big": {"device": "cuda", "accelerator": "Z9"}}},
            "verifiers.big.accelerator = 'Z9': expected one of T4, L4",
        ),
        ({"drafters": {"small": {"kind": "suffix"}}}, "drafters.small.tokenizer = '': expected the target's"),
        ({"verifiers": {"big": {"cpus": 0.0}}}, "verifiers.big.cpus = 0.0: expected more than 0"),
        (
            {"drafters": {"small": {"kind": "model", "model": "a/b", "device": "cuda", "gpus": 0.5}}},
            "drafters.small.gpus = 0.5: expected a whole number",
        ),
        (
            {"drafters": {"small": {"kind": "suffix", "tokenizer": "a/b", "snapshot": "/models/s"}}},
            "drafters.small.snapshot = '/models/s': expected none",
        ),
        (
            {"drafters": {"small": {"kind": "datastore", "tokenizer": "a/b", "datastore": "/data"}}},
            "drafters.small.datastore = '/data': expected a path below /models",
        ),
        (
            {"drafters": {"small": {"kind": "model", "model": "/models/../etc"}}},
            "drafters.small.model = '/models/../etc': expected a hub id, a path below /models",
        ),
        (
            {"models": [{"id": "m", "target": "./here", "verifiers": "big"}]},
            "models.m.target = './here': expected a hub id, a path below /models",
        ),
        (
            {"models": [{"id": id_, "target": "a/b", "verifiers": "big"} for id_ in ("M", "m")]},
            "models.M.id = 'big-M': expected a name of",
        ),
    ],
)
def test_what_kubernetes_cannot_do_is_refused_by_name(change: dict[str, Any], says: str) -> None:
    with pytest.raises(FieldError) as caught:
        render(parse_topology({**MINIMAL, **change}), PLAIN)
    assert says in str(caught.value)
    assert "hidden" not in str(caught.value)


def test_another_redis_takes_the_place_of_ours(tmp_path: Path) -> None:
    data = {**MINIMAL, "redis": "rediss://redis.example:6390/2"}
    write(render(parse_topology(data), Rendering(source_from(tmp_path, K8S, []), "paceline:1")), tmp_path)
    manifests = build(tmp_path)
    assert not any("redis" in labels_of(each).values() for each in manifests.workloads)
    assert not {"redis"} & {
        name for kind in ("Service", "ServiceAccount", "NetworkPolicy") for name in manifests.names(kind)
    }
    assert not [name for name in manifests.names("ConfigMap") if name.startswith("redis")]
    assert manifests.named("ConfigMap", "fleet")["data"] == {"REDIS_URL": "rediss://redis.example:6390/2"}
    reached = {(source, port) for source, target, port in edges(manifests) if target == "internet"}
    assert reached == {("gateway", 6390), ("verifier-big", 6390), ("drafter-small", 6390)}


def test_names_of_pools_are_names_there() -> None:
    data = {**MINIMAL, "verifiers": {"big": {}, "Big_1": {}}}
    with pytest.raises(FieldError, match=r"verifiers\.Big_1 = 'Big_1': expected a name of at most 40"):
        render(parse_topology(data), PLAIN)


def test_verifiers_of_a_shared_pool_have_names_of_their_own() -> None:
    pools = (("a", "big"), ("b", "big"), ("c", "big-a"))
    models = [{"id": id_, "target": "a/b", "verifiers": verifiers} for id_, verifiers in pools]
    with pytest.raises(FieldError, match=r"models\.a\.id = 'big-a': expected a name that no other"):
        render(parse_topology({**MINIMAL, "models": models, "verifiers": {"big": {}, "big-a": {}}}), PLAIN)


def test_every_refusal_is_said_at_once() -> None:
    data = {**MINIMAL, "tls": "certs", "gateway": {"http": -1, "grpc": 0}}
    with pytest.raises(FieldError) as caught:
        render(parse_topology(data), PLAIN)
    assert [error.field for error in caught.value.errors] == ["gateway.grpc", "gateway.http", "tls"]


@pytest.mark.parametrize("image", ["paceline", "paceline:", ":1", "registry:5000/paceline", "a b:1", "a:1 2", "A:1"])
def test_images_have_a_tag(image: str) -> None:
    with pytest.raises(FieldError, match=r"expected PREFIX:TAG"):
        replace(PLAIN, image=image)


def test_foreign_files_stay(tmp_path: Path) -> None:
    files = render(parse_topology(MINIMAL), PLAIN)
    mine = tmp_path / "verifier-big" / "patch.yaml"
    mine.parent.mkdir()
    mine.write_text("mine")
    with pytest.raises(FieldError, match=r"out = '.*patch\.yaml': expected no file"):
        write(files, tmp_path)
    assert [file for file in tmp_path.rglob("*") if file.is_file()] == [mine]
    assert mine.read_text() == "mine"


def test_what_an_earlier_topology_has_left_goes(tmp_path: Path) -> None:
    write(render(many_pools(), PLAIN), tmp_path)
    kept = [tmp_path / "drafter-store" / "notes.yaml", tmp_path / "other" / "kustomization.yaml"]
    kept[1].parent.mkdir()
    kept[0].write_text("mine")
    kept[1].write_text(HEADER)  # another overlay's
    files = render(parse_topology(MINIMAL), PLAIN)
    write(files, tmp_path)
    left = {file.relative_to(tmp_path) for file in tmp_path.rglob("*") if file.is_file()}
    assert left == {*map(Path, map(str, files)), *(file.relative_to(tmp_path) for file in kept)}
    assert not (tmp_path / "drafter-small").joinpath("store").exists()
    assert not (tmp_path / "verifier-big-one").exists()


def test_the_same_again_changes_nothing(tmp_path: Path) -> None:
    for _ in range(2):
        write(render(many_pools(), PLAIN), tmp_path)
        assert texts_in(tmp_path) == as_texts(render(many_pools(), PLAIN))


@pytest.mark.parametrize("at", range(1, 12))
def test_who_is_interrupted_can_do_it_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: int) -> None:
    """And what is there meanwhile refers to nothing that is not."""
    write(render(many_pools(), PLAIN), tmp_path)
    files, replace_file, calls = render(parse_topology(MINIMAL), PLAIN), Path.replace, itertools.count(1)

    def interrupted(self: Path, target: Path) -> Path:
        if next(calls) == at:
            raise KeyboardInterrupt
        return replace_file(self, target)

    with monkeypatch.context() as there:
        there.setattr(Path, "replace", interrupted)
        with contextlib.suppress(KeyboardInterrupt):
            write(files, tmp_path)
    named = yaml.safe_load((tmp_path / "kustomization.yaml").read_text())["resources"]
    assert all((tmp_path / name).is_dir() for name in named if not name.startswith(".."))
    write(files, tmp_path)
    assert texts_in(tmp_path) == as_texts(files)


@pytest.mark.parametrize("place", ["file", "file/below", "/proc/nowhere", "full"])
def test_where_nothing_can_be_written_is_said_in_a_line(tmp_path: Path, place: str) -> None:
    (tmp_path / "file").write_text("mine")
    (tmp_path / "full" / "kustomization.yaml").mkdir(parents=True)
    with pytest.raises(FieldError, match=r"^out = ") as caught:
        write(render(parse_topology(MINIMAL), PLAIN), tmp_path / place)
    assert "\n" not in str(caught.value)
    assert (tmp_path / "file").read_text() == "mine"


def texts_in(directory: Path) -> dict[str, str]:
    found = (file for file in directory.rglob("*") if file.is_file())
    return {file.relative_to(directory).as_posix(): file.read_text() for file in found}


def as_texts(files: Files) -> dict[str, str]:
    return {str(path): text for path, text in files.items()}


def test_the_command(tmp_path: Path) -> None:
    (tmp_path / "topology.yaml").write_text(yaml.safe_dump(MINIMAL))
    command = [sys.executable, "-m", "paceline.cli.main", "render", "kubernetes", str(tmp_path / "topology.yaml")]
    command += ["-o", str(tmp_path / "out"), "--source", str(K8S)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert build(tmp_path / "out").workloads


@pytest.mark.parametrize(
    ("text", "changed", "says"),
    [
        (None, [], "topology = 'topology.yaml': expected a file"),
        ("a: [1", [], "topology = 'topology.yaml': expected YAML ("),
        ("\0", [], "topology = 'topology.yaml': expected YAML ("),
        ("", [], "topology = None: expected a mapping"),
        ("surprise: 1", [], "surprise = 1: expected one of the keys models, verifiers"),
        ("", ["-o", "topology.yaml"], "out = 'topology.yaml': expected a folder that can be written to (File exists)"),
        ("", ["--source", "elsewhere"], "source = 'elsewhere': expected the folder k8s of Paceline's source"),
        ("", ["--image", "paceline"], "image = 'paceline': expected PREFIX:TAG"),
        (
            "", ["--with", "magic"],
            "with = 'magic': expected one of api-keys, external-redis, model-cache, monitoring, spot-drafters",
        ),
    ],
)  # fmt: skip
def test_what_the_command_cannot_do_is_said_in_lines(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str | None, changed: list[str], says: str
) -> None:
    monkeypatch.chdir(tmp_path)
    if text is not None:
        Path("topology.yaml").write_text(yaml.safe_dump(MINIMAL) if changed else text)
    command = ["kubernetes", "topology.yaml", "-o", "out", "--source", str(K8S), *changed]
    done = CliRunner().invoke(render_command, command)
    assert done.exit_code == 2
    assert done.stderr.splitlines()[0].startswith(f"paceline: {says}")
    assert all(line.startswith("paceline: ") for line in done.stderr.splitlines())
    assert not Path("out").exists()


def test_ctrl_c_says_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "topology.yaml").write_text(yaml.safe_dump(MINIMAL))

    def interrupted(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("paceline.cluster.kubernetes.overlay.write", interrupted)
    command = ["kubernetes", str(tmp_path / "topology.yaml"), "-o", str(tmp_path / "out"), "--source", str(K8S)]
    done = CliRunner().invoke(render_command, command)
    assert (done.exit_code, done.output) == (130, "")
