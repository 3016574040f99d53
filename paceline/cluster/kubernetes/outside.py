"""A Redis outside the cluster, or at least outside the fleet's namespace."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

from paceline.settings.redaction import redacted
from paceline.speculation.fields import Checks

COMPONENT = "external-redis"
SCHEMES = ("redis", "rediss")
DEFAULT_PORT = 6379
_ANYWHERE = ("0.0.0.0/0", "::/0")


def check_outside(checks: Checks, url: str) -> None:
    """Notes what must not or cannot stand in a manifest."""
    parts, shown = urlsplit(url), redacted("redis", url)
    checks.require(parts.scheme in SCHEMES, "redis", shown, "redis:// or rediss://: pods share no socket with it")
    expected = "no password in manifests: without it here, and the whole URL in the Secret redis (k8s/README.md)"
    checks.require(not parts.password, "redis", shown, expected)


def url_patch(url: str) -> dict[str, Any]:
    """What all services share, with this URL."""
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "fleet"}, "data": {"REDIS_URL": url}}


def policy(url: str) -> dict[str, Any]:
    """Lets the fleet reach the port of the URL, wherever its host is: policies know no names."""
    pods = {"key": "app.kubernetes.io/component", "operator": "In", "values": ["gateway", "verifier", "drafter"]}
    ports = [{"protocol": "TCP", "port": urlsplit(url).port or DEFAULT_PORT}]
    to = [{"namespaceSelector": {}}, *({"ipBlock": {"cidr": block}} for block in _ANYWHERE)]
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"name": "external-redis"},
        "spec": {
            "podSelector": {"matchExpressions": [pods]},
            "policyTypes": ["Egress"],
            "egress": [{"to": to, "ports": ports}],
        },
    }
