"""``paceline up`` with certificates: every process shows its own, and the command line gets in with one."""

from __future__ import annotations

import asyncio
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from paceline import rpc
from paceline.cli.certs import run_init
from paceline.cli.keys import add_key
from paceline.cli.main import app
from paceline.cli.services import planned_services
from paceline.cluster.local import LocalCluster, role_of
from paceline.cluster.topology import GatewayPool
from paceline.embedded import pair_topology
from paceline.errors import FieldError
from paceline.security.identity import Identity, Party, Role
from tests.security.conftest import Papers


async def generate(address: str, identity: Identity) -> tuple[int, str]:
    flags = ["--tls-ca", identity.ca, "--tls-cert", identity.certificate, "--tls-key", identity.key]
    command = ["-m", "paceline.cli.main", "generate", "def ", "--max-tokens", "4", "--gateway", address, *flags]
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(sys.executable, *map(str, command), stdout=pipe, stderr=pipe)
    out, err = await process.communicate()
    return process.returncode or 0, (out + err).decode()


async def test_a_fleet_of_processes(tmp_path: Path) -> None:
    run_init(tmp_path / "certs", None, ["127.0.0.1"], 10)
    topology = replace(pair_topology(draft=None), tls=str(tmp_path / "certs"))
    async with LocalCluster(topology) as cluster:
        client, drafter = (
            Identity.within(tmp_path / "certs", party)
            for party in (Party(Role.CLIENT, "client"), Party(Role.DRAFTER, "ngram"))
        )
        (status, _), (refused, said) = await asyncio.gather(
            generate(cluster.gateway_address, client), generate(cluster.gateway_address, drafter)
        )
        log = cluster.worker("gateway").last_words()
        for worker in cluster.workers:
            assert not await rpc.is_serving(worker.address, 0.3)
            role = role_of(worker.command[2])
            assert await rpc.is_serving(worker.address, 2, client, role)
    assert (status, refused) == (0, 1)
    assert "PERMISSION_DENIED" in said
    assert "GatewayService/Generate is for client or operator, not for drafter ngram" in log


def test_what_a_topology_says_becomes_flags(papers: Papers, tmp_path: Path) -> None:
    keys = tmp_path / "keys.yaml"
    add_key(keys, "team", "batch", {})
    run_init(tmp_path / "certs", None, ["127.0.0.1"], 10)
    topology = replace(pair_topology(), gateway=GatewayPool(api_keys=str(keys)), tls=str(tmp_path / "certs"))
    configs = {planned.name: planned.resolve().config for planned in planned_services(topology)}
    assert configs["gateway"].api_keys == keys
    assert {name: config.tls_cert.parent.name for name, config in configs.items()} == {
        "gateway": "gateway", "verifier": "verifier", "draft": "drafter", "ngram": "drafter",
    }  # fmt: skip
    for planned in planned_services(replace(topology, tls=str(papers.directory))):
        if planned.service == "drafter":  # no certificate of that name
            with pytest.raises(FieldError, match="--tls-cert"):
                planned.resolve()


def test_a_command_line_wants_files_that_go_together(papers: Papers) -> None:
    identity = papers.good[Role.CLIENT]
    asked = ["generate", "x", "--gateway", "127.0.0.1:1"]
    for flags, said in (
        (["--tls-cert", identity.certificate, "--tls-ca", identity.ca], "a key and its certificate"),
        (["--tls-cert", identity.certificate, "--tls-key", identity.key], "tls_ca"),
        (["--tls-ca", "nowhere"], "expected a file"),
    ):
        result = CliRunner().invoke(app, [*asked, *map(str, flags)])
        assert result.exit_code == 2
        assert said in result.output
