"""What a Ray cluster cannot do is refused before it is asked, by the key that says it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from paceline.cluster.ray.refusals import check_deployable
from paceline.cluster.topology import DrafterPool, GatewayPool, ModelRoute, Topology, VerifierPool
from paceline.errors import FieldError

TOPOLOGY = Topology(
    models=(ModelRoute("m", "org/target", "big", ("small", "text")),),
    verifiers={"big": VerifierPool()},
    drafters={
        "small": DrafterPool("model", "/models/draft"),
        "text": DrafterPool("suffix", tokenizer="embedded:target", snapshot="/var/snapshots"),
    },
    gateway=GatewayPool(api_keys="/etc/keys"),
    redis="redis://cache/0",
    tls="/certs",
)


def refused(topology: Topology, *, insecure: bool = False) -> list[str]:
    with pytest.raises(FieldError) as raised:
        check_deployable(topology, insecure=insecure)
    return [f"{error.field} = {error.value}" for error in raised.value.errors]


def test_what_every_node_finds_is_taken() -> None:
    check_deployable(TOPOLOGY, insecure=False)
    check_deployable(replace(TOPOLOGY, tls=None), insecure=True)


def test_every_path_of_one_node_is_named() -> None:
    small, text = TOPOLOGY.drafters["small"], TOPOLOGY.drafters["text"]
    topology = replace(
        TOPOLOGY,
        models=(replace(TOPOLOGY.models[0], target="./target"),),
        drafters={
            "small": replace(small, model="draft"),
            "text": replace(text, snapshot="snapshots", datastore="texts", tokenizer="a/b/c"),
        },
        gateway=GatewayPool(api_keys="keys"),
        tls="certs",
    )
    assert sorted(refused(topology)) == [
        "drafters.small.model = draft",
        "drafters.text.datastore = texts",
        "drafters.text.snapshot = snapshots",
        "drafters.text.tokenizer = a/b/c",
        "gateway.api_keys = keys",
        "models.m.target = ./target",
        "tls = certs",
    ]


def test_a_folder_here_that_looks_like_a_hub_id_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "org" / "target").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    assert refused(TOPOLOGY) == ["models.m.target = org/target"]


@pytest.mark.parametrize(("redis", "shown"), [(None, "None"), ("unix://:secret@/redis.sock", "unix:///redis.sock")])
def test_workers_need_a_redis_that_all_nodes_reach(redis: str | None, shown: str) -> None:
    assert refused(replace(TOPOLOGY, redis=redis)) == [f"redis = {shown}"]


def test_without_certificates_one_says_so() -> None:
    assert refused(replace(TOPOLOGY, tls=None)) == ["tls = None"]
