"""The embedded model pair: a small target and its draft, so that everything runs without a download."""

from __future__ import annotations

from pathlib import Path

from paceline.cluster.topology import DrafterPool, GatewayPool, ModelRoute, Topology, VerifierPool

_HERE = Path(__file__).parent
TARGET, DRAFT = _HERE / "target", _HERE / "draft"
MODEL_ID = "paceline-python-8m"


def pair_topology(target: str = str(TARGET), draft: str | None = str(DRAFT), model_id: str = MODEL_ID) -> Topology:
    """One verifier, a draft model if there is one, and an n-gram drafter, all on this machine."""
    drafters = {"ngram": DrafterPool(kind="ngram")}
    if draft is not None:
        drafters = {"draft": DrafterPool(kind="model", model=draft), **drafters}
    return Topology(
        models=(ModelRoute(model_id, target, "verifier", tuple(drafters)),),
        verifiers={"verifier": VerifierPool()},
        drafters=drafters,
        gateway=GatewayPool(),
    )
