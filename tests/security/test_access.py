"""The table of who may call what, against the services as they are."""

from __future__ import annotations

import pytest

from paceline import wire
from paceline.errors import PermissionDenied, Unauthenticated
from paceline.security.access import refusal
from paceline.security.identity import Party, Role
from paceline.security.refusals import QUIET_SECONDS, Refusals

METHODS = [
    f"/{service.full_name}/{method.name}"
    for file in (wire.verifier.DESCRIPTOR, wire.drafter.DESCRIPTOR, wire.gateway.DESCRIPTOR)
    for service in file.services_by_name.values()
    for method in service.methods
]


def allowed(method: str) -> set[str]:
    return {role.value for role in Role if refusal(method, Party(role, "a")) is None}


def test_every_method_is_for_somebody_and_for_nobody_without_a_role() -> None:
    assert len(METHODS) >= 12
    for method in METHODS:
        assert allowed(method), method
        assert isinstance(refusal(method, None), Unauthenticated)


@pytest.mark.parametrize(
    ("method", "roles"),
    [
        ("VerifierService/Decode", {"gateway"}),
        ("VerifierService/Speculate", {"drafter"}),
        ("VerifierService/GetTokenizer", {"gateway", "drafter", "operator"}),
        ("DrafterService/Attach", {"gateway"}),
        ("DrafterService/Propose", {"gateway", "operator"}),
        ("GatewayService/Generate", {"client", "operator"}),
        ("GatewayService/Resume", {"client", "operator"}),
        ("VerifierService/Unheard", set()),
        ("OtherService/Decode", set()),
    ],
)
def test_roles(method: str, roles: set[str]) -> None:
    assert allowed(f"/paceline.v1.{method}") == roles


def test_health_and_reflection_are_for_every_certificate() -> None:
    for method in ("/grpc.health.v1.Health/Check", "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo"):
        assert refusal(method, None) is None


def test_a_refusal_names_method_and_roles() -> None:
    error = refusal("/paceline.v1.VerifierService/Decode", Party(Role.DRAFTER, "d"))
    assert isinstance(error, PermissionDenied)
    assert str(error) == "/paceline.v1.VerifierService/Decode is for gateway, not for drafter d"


def test_refusals_are_all_counted_and_logged_once_in_a_while(caplog: pytest.LogCaptureFixture) -> None:
    now = 0.0
    refusals = Refusals(lambda: now)
    for port in range(5):
        refusals.note("role", f"ipv4:10.0.0.7:{port}", "no")
    refusals.note("role", "ipv4:10.0.0.8:1", "no")
    refusals.note("api_key", "ipv4:10.0.0.7:9", "no")
    assert [record.getMessage() for record in caplog.records] == [
        "refused peer=ipv4:10.0.0.7:0 reason=role detail=no", "refused peer=ipv4:10.0.0.8:1 reason=role detail=no",
        "refused peer=ipv4:10.0.0.7:9 reason=api_key detail=no",
    ]  # fmt: skip
    now = QUIET_SECONDS
    refusals.note("role", "ipv4:10.0.0.7:5", "no")
    assert len(caplog.records) == 4
    assert refusals.by_reason() == {"role": 7, "api_key": 1}
