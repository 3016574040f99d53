"""Certificates of one authority, and some that are not what they should be."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from paceline.security.authority import LOCAL_HOSTS, Authority
from paceline.security.identity import Identity, Party, Role

PARTIES = [Party(role, role.value) for role in Role]


@dataclass(frozen=True)
class Papers:
    """``good`` by role; ``bad`` ones are a drafter's."""

    directory: Path
    good: dict[Role, Identity]
    bad: dict[str, Identity]


@pytest.fixture(scope="session")
def papers(tmp_path_factory: pytest.TempPathFactory) -> Papers:
    directory, elsewhere = tmp_path_factory.mktemp("ours"), tmp_path_factory.mktemp("theirs")
    authority, other = Authority.make(10), Authority.make(10)
    authority.save(directory)
    good = {party.role: authority.issue(directory, party, LOCAL_HOSTS, 10) for party in PARTIES}
    old = authority.issue(directory, Party(Role.DRAFTER, "old"), LOCAL_HOSTS, -1)
    far = authority.issue(directory, Party(Role.DRAFTER, "far"), ["elsewhere.example"], 10)
    strange = other.issue(elsewhere, Party(Role.DRAFTER, "strange"), LOCAL_HOSTS, 10)
    foreign = Identity(good[Role.DRAFTER].ca, strange.certificate, strange.key)
    return Papers(directory, good, {"expired": old, "foreign": foreign, "elsewhere": far})
