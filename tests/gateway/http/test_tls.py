"""HTTPS: for clients with certificates, or, where keys are asked for, for everybody."""

from __future__ import annotations

import contextlib
import shutil
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import httpx2
import pytest

from gateway.callers import Callers, KeyEntry, hash_key
from gateway.http.app import make_app
from gateway.http.server import HttpServer
from gateway.service import Gateway
from paceline.errors import FieldError
from paceline.security.authority import LOCAL_HOSTS, Authority
from paceline.security.identity import Identity, Party, Role
from paceline.security.refusals import REFUSALS

KEYS = Callers([KeyEntry("team", hash_key("pl-right"))])


@pytest.fixture(scope="module")
def papers(tmp_path_factory: pytest.TempPathFactory) -> dict[Role, Identity]:
    directory, authority = tmp_path_factory.mktemp("certs"), Authority.make(10)
    authority.save(directory)
    return {role: authority.issue(directory, Party(role, role.value), LOCAL_HOSTS, 10) for role in Role}


@contextlib.asynccontextmanager
async def serving(identity: Identity, callers: Callers | None = None) -> AsyncIterator[str]:
    app = make_app(Gateway([], []), callers or Callers())
    server = HttpServer(app, identity=identity, keyed=callers is not None)
    port = await server.start("127.0.0.1", 0, insecure=False)
    try:
        yield f"https://127.0.0.1:{port}"
    finally:
        await server.stop()


async def status(url: str, trusted: Identity, own: Identity | None = None, key: str = "") -> int:
    """Of the list of models; 0: no answer."""
    context = ssl.create_default_context(cafile=str(trusted.ca))
    if own:
        context.load_cert_chain(own.certificate, own.key)
    async with httpx2.AsyncClient(verify=context) as client:
        try:
            answer = await client.get(f"{url}/v1/models", headers={"Authorization": f"Bearer {key}"} if key else {})
        except httpx2.TransportError:
            return 0
    return answer.status_code


async def test_without_keys_a_clients_certificate_is_needed(papers: dict[Role, Identity]) -> None:
    before = dict(REFUSALS.by_reason())
    gateway = papers[Role.GATEWAY]
    async with serving(gateway) as url:
        answers = {role: await status(url, gateway, papers[role]) for role in Role}
        assert await status(url, gateway) == 0
    assert {role for role, answer in answers.items() if answer == 200} == {Role.CLIENT, Role.OPERATOR}
    assert {answers[role] for role in (Role.GATEWAY, Role.VERIFIER, Role.DRAFTER)} == {0}
    counted = {reason: count - before.get(reason, 0) for reason, count in REFUSALS.by_reason().items()}
    assert (counted["role"], counted["certificate"]) == (3, 1)


async def test_of_another_authority(papers: dict[Role, Identity], tmp_path: Path) -> None:
    strange = Authority.make(10).issue(tmp_path, Party(Role.CLIENT, "client"), LOCAL_HOSTS, 10)
    async with serving(papers[Role.GATEWAY]) as url:
        assert await status(url, papers[Role.GATEWAY], strange) == 0


async def test_with_keys_the_key_decides(papers: dict[Role, Identity]) -> None:
    gateway = papers[Role.GATEWAY]
    async with serving(gateway, KEYS) as url:
        assert await status(url, gateway, key="pl-right") == 200
        assert await status(url, gateway, key="pl-wrong") == 401
        assert await status(url, gateway, papers[Role.CLIENT]) == 401


async def test_new_certificates_need_no_restart(papers: dict[Role, Identity], tmp_path: Path) -> None:
    other = Authority.make(10)
    other.save(tmp_path / "other")
    fresh = other.issue(tmp_path / "other", Party(Role.GATEWAY, "gateway"), LOCAL_HOSTS, 10)
    mine, first = Identity.within(tmp_path, Party(Role.GATEWAY, "mine")), papers[Role.GATEWAY]
    mine.key.parent.mkdir()

    def become(identity: Identity) -> None:
        for name in ("key", "certificate", "ca"):
            shutil.copy(getattr(identity, name), getattr(mine, name))

    become(first)
    async with serving(mine, KEYS) as url:
        assert await status(url, first, key="pl-right") == 200
        become(fresh)
        assert await status(url, fresh, key="pl-right") == 200
        assert await status(url, first, key="pl-right") == 0
        mine.key.write_text("half of a ke")
        assert await status(url, fresh, key="pl-right") == 200


async def test_other_addresses_than_loopback_need_tls_or_insecure() -> None:
    app = make_app(Gateway([], []), Callers())
    with pytest.raises(FieldError, match=r"host = '0.0.0.0': expected a loopback address"):
        await HttpServer(app).start("0.0.0.0", 0, insecure=False)
