"""What a topology may say, and a Ray cluster cannot do: each is refused by its key."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from paceline.checkpoint import EMBEDDED as EMBEDDED_PAIR
from paceline.checkpoint import HUB_ID
from paceline.cluster.embedded_redis import check_embedded
from paceline.cluster.redis_client import shown
from paceline.cluster.topology import EMBEDDED, Topology
from paceline.speculation.fields import Checks, every_error, require

REACHABLE = "an URL that all nodes reach, or embedded: workers find each other by it"


def check_deployable(topology: Topology, *, insecure: bool) -> None:
    """Raises ``FieldError`` or ``FieldErrors``, one for each key that has no meaning there."""
    with every_error() as checks:
        _check_redis(checks, topology.redis)
        checks.require(insecure or topology.tls is not None, "tls", None, "a folder of certificates, or --insecure")
        for key, path in _paths(topology):
            checks.require(Path(path).is_absolute(), key, path, "an absolute path, which every node has")
        for key, reference in _checkpoints(topology):
            right = reference in EMBEDDED_PAIR or Path(reference).is_absolute() or _is_hub_id(reference)
            expected = f"a hub id, an absolute path, which every node has, or {' or '.join(EMBEDDED_PAIR)}"
            checks.require(right, key, reference, expected)


def check_unchanged(before: Topology, after: Topology) -> None:
    """Raises ``FieldError`` or ``FieldErrors`` for what workers that go on would have to be told; both with the URL of
    their Redis."""
    with every_error() as checks:
        for key in ("redis", "tls"):
            has, asked = getattr(before, key), getattr(after, key)
            checks.require(has == asked, key, _shown(asked), _as_started(_shown(has)))


def check_same_insecure(before: bool, after: bool) -> None:  # noqa: FBT001 - compared
    require(before is after, "insecure", after, _as_started(before))


def _as_started(value: object) -> str:
    return f"{value!r}, which the fleet was started with ('paceline down' ends it)"


def _shown(url: str | None) -> str | None:
    return None if url is None else shown(url)


def _check_redis(checks: Checks, redis: str | None) -> None:
    reachable = redis is not None and not redis.startswith("unix:")
    checks.require(reachable, "redis", _shown(redis), REACHABLE)
    if redis == EMBEDDED:
        with checks.caught():
            check_embedded("redis")


def _paths(topology: Topology) -> Iterator[tuple[str, str]]:
    """Files of a node, by key: Ray starts processes in folders of its own."""
    yield from (("tls", topology.tls),) if topology.tls else ()
    if topology.gateway.api_keys:
        yield "gateway.api_keys", topology.gateway.api_keys
    for name, pool in topology.drafters.items():
        for key in ("datastore", "snapshot"):
            if path := getattr(pool, key):
                yield f"drafters.{name}.{key}", path


def _checkpoints(topology: Topology) -> Iterator[tuple[str, str]]:
    for model in topology.models:
        yield f"models.{model.id}.target", model.target
    for name, pool in topology.drafters.items():
        for key in ("model", "tokenizer"):
            if reference := getattr(pool, key):
                yield f"drafters.{name}.{key}", reference


def _is_hub_id(reference: str) -> bool:
    """One that is not the name of a folder beside who asks."""
    return bool(HUB_ID.fullmatch(reference)) and not Path(reference).exists()
