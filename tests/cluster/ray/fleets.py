"""A fleet to start on a Ray cluster, a text to ask it for, and what it looks like from outside."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from paceline.client import BlockingGatewayClient
from paceline.cluster.topology import EMBEDDED, DrafterPool, GatewayPool, ModelRoute, Topology, VerifierPool
from paceline.embedded import TARGET
from paceline.errors import NotFound
from paceline.messages import Generate
from paceline.speculation.sampling import SamplingParameters

if TYPE_CHECKING:
    from paceline.cluster.ray.managed import WorkerStatus

TOKENS, KILL_AFTER = 160, 24
PATIENCE_SECONDS = 40.0
REQUEST = Generate(
    text="def f(x):\n" * 4, sampling=SamplingParameters(max_tokens=TOKENS, temperature=0.8, ignore_eos=True), seed=3
)
TOPOLOGY = Topology(
    models=(ModelRoute("target", str(TARGET), "big", ("lookup",)),),
    verifiers={"big": VerifierPool(2, numerics="deterministic", accelerator="H100", emulate_step_time="20ms")},
    drafters={"lookup": DrafterPool("ngram", cpus=0.5, accelerator="L4")},
    gateway=GatewayPool(grpc=0, http=0),
    redis=EMBEDDED,
)


def say(address: str, meanwhile: Callable[[], None] = lambda: None) -> list[int]:
    """A text, always the same; ``meanwhile`` is called once when some of it is there."""
    said: list[int] = []
    called = False
    with BlockingGatewayClient(address) as client:
        for chunk in client.generate(REQUEST):
            said += chunk.token_ids
            if len(said) >= KILL_AFTER and not called:
                called = True
                meanwhile()
    assert called
    return said


def rows(pool: str) -> Sequence[WorkerStatus]:
    from paceline.cluster.ray import fleet

    return [row for row in fleet.status().workers if row.pool == pool]


def settle(pool: str, replicas: int) -> None:
    """Returns when so many serve, and are announced, and no others are left."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while [row.serves and row.announced is not False for row in rows(pool)] != [True] * replicas:
        assert time.monotonic() < deadline, rows(pool)
        time.sleep(0.1)


def end_fleet(cluster: str) -> None:
    """If there is one."""
    from paceline.cluster.ray import fleet
    from paceline.cluster.ray.connection import connected

    with connected(cluster), contextlib.suppress(NotFound):
        fleet.down()
