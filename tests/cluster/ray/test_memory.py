"""What a supervisor that is started again reads is what was asked of the one before."""

from __future__ import annotations

import pytest

from paceline.cluster.ray.memory import Asked
from paceline.cluster.topology import DrafterPool, GatewayPool, ModelRoute, Topology, VerifierPool
from paceline.errors import FieldError

URL = "redis://:secret@cache/0"
TOPOLOGY = Topology(
    models=(ModelRoute("m", "org/target", "big", ("small", "text")), ModelRoute("n", "org/other", "big")),
    verifiers={"big": VerifierPool(3, "cuda", accelerator="H100", price_per_hour=6.8)},
    drafters={"small": DrafterPool("model", "org/draft", gpus=0.25), "text": DrafterPool("suffix", tokenizer="org/t")},
    gateway=GatewayPool(0, -1, 2, "/keys"),
    redis=URL,
    tls="/certs",
)


def test_it_is_the_same_and_holds_no_password() -> None:
    asked = Asked(TOPOLOGY, autoscale=True)
    assert Asked.loads(asked.dumps(), URL) == asked
    assert "secret" not in asked.dumps()


def test_what_another_version_wrote_is_named() -> None:
    with pytest.raises(FieldError, match="shards"):
        Asked.loads(Asked(TOPOLOGY, autoscale=True).dumps().replace('"replicas": 3', '"shards": 3'), URL)
