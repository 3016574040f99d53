"""What a topology asks of this machine, and whether it is here: ports, devices, checkpoints, tokenizers, datastores."""

from __future__ import annotations

import importlib.util
import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator

from paceline.cluster.check_files import check_certificates, check_files
from paceline.cluster.findings import Findings
from paceline.cluster.topology import EMBEDDED, PORTS, DrafterPool, GatewayPool, Sections, VerifierPool
from paceline.errors import FieldError

BYTES_PER_TOKEN = 8
"""Of a text that is remembered: the token, and its place in the sorted order."""
USED_BY = {
    "datastore": "datastore", "draft_context": "rag", "memory_tokens": "suffix", "snapshot": "suffix",
    "suffix_decoding_max_tree_depth": "suffix", "suffix_decoding_max_cached_requests": "suffix",
    "suffix_decoding_max_spec_factor": "suffix", "suffix_decoding_min_token_prob": "suffix",
}  # fmt: skip
"""Keys of drafter pools that only one kind looks at."""
_FIND_DEVICES = """
import json, sys
from paceline.engine.device import find_device
from paceline.errors import FieldError
def expected(name):
    try: find_device(name)
    except FieldError as error: return error.expected
print(json.dumps({name: expected(name) for name in sys.argv[1:]}))
"""


def check_machine(sections: Sections) -> Findings:
    """Asks for everything that the sections name; starts and downloads nothing."""
    findings = Findings()
    _check_ports(sections.gateway, findings)
    _check_redis(sections.redis, findings)
    _check_devices(sections, findings)
    check_files(sections, findings)
    if sections.tls is not None:
        check_certificates(sections.tls, findings)
    _check_values(sections, findings)
    _check_use(sections, findings)
    return findings


def _pools(sections: Sections) -> Iterator[tuple[str, VerifierPool | DrafterPool]]:
    yield from ((f"verifiers.{name}", pool) for name, pool in sections.verifiers.items())
    yield from ((f"drafters.{name}", pool) for name, pool in sections.drafters.items())


def _check_ports(gateway: GatewayPool, findings: Findings) -> None:
    for key, port in [(f"gateway.{name}", port) for name in PORTS for port in gateway.ports(name)]:
        if port >= 65536:  # said by the topology itself
            continue
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # connections that linger do not matter
            try:
                probe.bind(("127.0.0.1", port))
            except OSError as error:
                findings.error(key, port, f"a free port ({error.strerror})")


def _check_redis(redis: str | None, findings: Findings) -> None:
    if redis != EMBEDDED:
        return
    from paceline.cluster.embedded_redis import check_embedded

    try:
        check_embedded("redis")
    except FieldError as error:
        findings.errors.append(error)


def _check_devices(sections: Sections, findings: Findings) -> None:
    asked = sorted({pool.device for _, pool in _pools(sections)} - {"cpu"})
    if not asked:
        return
    expected, unchecked = _find_devices(asked)
    for key, pool in _pools(sections):
        if pool.device in asked and unchecked:
            findings.warn(f"{key}.device", pool.device, f"not checked ({unchecked})")
        elif expected.get(pool.device):
            findings.error(f"{key}.device", pool.device, str(expected[pool.device]))


def _find_devices(names: list[str]) -> tuple[dict[str, str | None], str]:
    """What was expected of each device that is not here; or why nobody could tell.

    Asked in a process of its own: whoever checks needs no torch, and takes no memory of a device.
    """
    if importlib.util.find_spec("torch") is None:
        return {}, "torch is not installed"
    command = [sys.executable, "-c", _FIND_DEVICES, *names]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if result.returncode != 0:
        return {}, (result.stderr.strip().splitlines() or [f"status {result.returncode}"])[-1]
    return json.loads(result.stdout), ""


def _check_values(sections: Sections, findings: Findings) -> None:
    for key, pool in _pools(sections):
        if pool.accelerator and not pool.price_per_hour:
            findings.warn(f"{key}.price_per_hour", pool.price_per_hour, f"costs count {pool.accelerator} as free")
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    for name, drafters in sections.drafters.items():
        for key, kind in USED_BY.items():
            value = getattr(drafters, key)
            if drafters.kind != kind and value != getattr(DrafterPool(kind), key):
                findings.warn(f"drafters.{name}.{key}", value, f"has no effect, only kind {kind} uses it")
        needed = drafters.memory_tokens * BYTES_PER_TOKEN * drafters.replicas
        if drafters.kind == "suffix" and needed > memory:
            says = f"takes {needed / 1e9:.0f} GB when full, this machine has {memory / 1e9:.0f}"
            findings.warn(f"drafters.{name}.memory_tokens", drafters.memory_tokens, says)


def _check_use(sections: Sections, findings: Findings) -> None:
    used = {f"verifiers.{model.verifiers}" for model in sections.models}
    used |= {f"drafters.{name}" for model in sections.models for name in model.drafters}
    for key, pool in _pools(sections):
        if key not in used:
            findings.warnings.append(f"{key}: not started, since no model names it")
        elif isinstance(pool, VerifierPool) and pool.replicas == 0:
            findings.warn(f"{key}.replicas", 0, "its models are not served")
