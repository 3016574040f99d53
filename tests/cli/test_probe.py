"""``paceline probe`` says what a service's health says, with and without certificates."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from paceline.rpc import Server
from paceline.security.authority import LOCAL_HOSTS, Authority
from paceline.security.identity import Party, Role


async def probe(*arguments: object) -> tuple[int, str]:
    command = [sys.executable, "-m", "paceline.cli.main", "probe", *map(str, arguments)]
    process = await asyncio.create_subprocess_exec(*command, stderr=asyncio.subprocess.PIPE)
    _, said = await process.communicate()
    return process.returncode or 0, said.decode()


async def test_status_is_what_health_says() -> None:
    server = Server(["paceline.v1.VerifierService"])
    address = f"127.0.0.1:{await server.start('127.0.0.1', 0, insecure=False)}"
    assert await probe(address) == (1, f"paceline: {address} is not serving\n")  # it listens, and is not ready
    await server.ready()
    assert await probe(address) == (0, "")
    await server.stop(0)
    status, _ = await probe(address, "--timeout-seconds", 0.2)
    assert status == 1


async def test_a_service_with_certificates_is_asked_with_its_own(tmp_path: Path) -> None:
    authority = Authority.make(1)
    authority.save(tmp_path)
    identity = authority.issue(tmp_path, Party(Role.VERIFIER, "verifier"), LOCAL_HOSTS, 1)
    server = Server(["paceline.v1.VerifierService"], identity=identity)
    address = f"127.0.0.1:{await server.start('127.0.0.1', 0, insecure=False)}"
    await server.ready()
    own = ["--tls-ca", identity.ca, "--tls-cert", identity.certificate, "--tls-key", identity.key]
    (served, _), (refused, _), (wrong, said) = await asyncio.gather(
        probe(address, *own), probe(address), probe(address, *own[:4])
    )
    await server.stop(0)
    assert (served, refused, wrong) == (0, 1, 2)
    assert "a key and its certificate" in said
