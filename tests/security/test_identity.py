"""Certificates say who somebody is; files that do not go together are found out at start."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest
from typer.testing import CliRunner

from paceline.cli.main import app
from paceline.errors import FieldError
from paceline.security.identity import Identity, Party, Role, server_name
from paceline.settings import parse
from paceline.speculation.fields import every_error
from tests.security.conftest import Papers
from verifier_service.config import VerifierConfig


def complaints(identity: Identity, role: Role, name: str | None = None) -> list[str]:
    from paceline.security.check import check_identity

    try:
        with every_error() as checks:
            check_identity(checks, identity, role, name)
    except FieldError as found:
        return [f"{error.field}: {error.expected}" for error in found.errors]
    return []


@pytest.mark.parametrize("role", Role)
def test_a_party_is_what_its_uri_says(role: Role) -> None:
    assert Party.parse(Party(role, "a-1.b_c").uri) == Party(role, "a-1.b_c")


@pytest.mark.parametrize(
    "uri",
    [
        "", "spiffe://paceline/drafter/", "spiffe://paceline/king/a", "spiffe://paceline/drafter/a/b",
        "spiffe://elsewhere/drafter/a", "https://paceline/drafter/a", "spiffe://paceline/drafter/a\n",
        "spiffe://paceline/drafter/-a", "SPIFFE://paceline/drafter/a", f"spiffe://paceline/drafter/{'a' * 65}",
    ],
)  # fmt: skip
def test_other_uris_name_nobody(uri: str) -> None:
    assert Party.parse(uri) is None


def test_two_parties_in_one_certificate_are_nobody() -> None:
    uris = [Party(Role.DRAFTER, "a").uri, "https://example.org"]
    assert Party.among(uris) == Party(Role.DRAFTER, "a")
    assert Party.among([*uris, Party(Role.GATEWAY, "a").uri]) is None


def test_names_of_servers_hold_host_and_role() -> None:
    assert server_name("10.0.0.7", Role.VERIFIER) == "10.0.0.7.verifier.paceline"
    assert server_name("::1", Role.GATEWAY) == "--1.gateway.paceline"


def test_good_papers_are_good(papers: Papers) -> None:
    for role, identity in papers.good.items():
        assert complaints(identity, role) == complaints(identity, role, role.value) == []


def test_what_is_wrong_with_papers_is_said(papers: Papers, tmp_path: Path) -> None:
    good, other = papers.good[Role.DRAFTER], papers.good[Role.GATEWAY]
    nonsense = tmp_path / "nonsense.pem"
    nonsense.write_text("-----BEGIN NOTHING-----")

    def first(identity: Identity, role: Role = Role.DRAFTER, name: str | None = None) -> str:
        return " | ".join(complaints(identity, role, name))

    assert "to be valid now" in first(papers.bad["expired"])
    assert f"a certificate that {good.ca} has signed" in first(papers.bad["foreign"])
    assert "the key of the certificate" in first(Identity(good.ca, good.certificate, other.key))
    assert "tls_key: a private key in PEM" in first(Identity(good.ca, good.certificate, nonsense))
    assert "tls_ca: certificates in PEM" in first(Identity(nonsense, good.certificate, good.key))
    assert "tls_cert: a file that can be read" in first(Identity(good.ca, tmp_path / "none", good.key))
    assert "not spiffe://paceline/drafter/drafter" in first(good, Role.VERIFIER)
    assert "with the URI spiffe://paceline/drafter/b" in first(good, name="b")


def test_settings_want_all_three_files_or_none(
    papers: Papers, target_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        parse(VerifierConfig, ["--target", str(target_path), "--tls-cert", "x"], "x")
    said = capsys.readouterr().err
    assert "--tls-key None: expected a file, since tls_cert is given" in said
    assert "--tls-ca None: expected a file, since tls_cert is given" in said
    identity = papers.good[Role.DRAFTER]
    flags = ["--tls-cert", identity.certificate, "--tls-key", identity.key, "--tls-ca", identity.ca]
    with pytest.raises(SystemExit):
        parse(VerifierConfig, ["--target", str(target_path), *map(str, flags)], "x")
    assert "the URI spiffe://paceline/verifier/NAME, not spiffe://paceline/drafter/drafter" in capsys.readouterr().err


def test_certs_init_makes_what_up_needs_and_overwrites_nothing(tmp_path: Path) -> None:
    directory = tmp_path / "certs"
    made = CliRunner().invoke(app, ["certs", "init", str(directory), "--hosts", "localhost,10.0.0.7"])
    assert made.exit_code == 0, made.output
    parties = [Party(Role.DRAFTER, "ngram"), Party(Role.VERIFIER, "verifier"), Party(Role.OPERATOR, "operator")]
    for party in parties:
        assert complaints(Identity.within(directory, party), party.role, party.name) == []
    keys = {file: file.read_bytes() for file in directory.rglob("*.key")}
    assert len(keys) == 7
    assert {stat.S_IMODE(file.stat().st_mode) for file in keys} == {0o600}
    assert CliRunner().invoke(app, ["certs", "init", str(directory)]).exit_code == 2
    assert CliRunner().invoke(app, ["certs", "add", str(directory), "drafter", "ngram"]).exit_code == 2
    assert CliRunner().invoke(app, ["certs", "add", str(directory), "king", "a"]).exit_code == 2
    assert {file: file.read_bytes() for file in keys} == keys
    assert CliRunner().invoke(app, ["certs", "add", str(directory), "drafter", "second"]).exit_code == 0
    assert complaints(Identity.within(directory, Party(Role.DRAFTER, "second")), Role.DRAFTER, "second") == []
